"""From declarations and settings to a running service.

arguments     checks that `Bus(...)` is given the kinds of arguments that it takes
declarations  checks what a service declares as a whole
served        checks whether what it declares can ever run
backend       the transport and the stores, chosen by the settings
sinks         gives projections with a sink their places, and queries what they read
assembly      puts a runtime together
runtime       what an open bus consists of, for delivery and the command line to use
"""

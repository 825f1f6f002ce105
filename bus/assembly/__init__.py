"""From declarations and settings to a running service.

arguments     what `Bus(...)` is given, of the kinds that it takes
declarations  what a service declares, checked as a whole
served        whether what it declares can ever run
backend       the transport and the stores, chosen by the settings
assembly      puts a runtime together
runtime       what an open bus consists of, for delivery and the command line to use
"""

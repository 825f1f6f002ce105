"""The command `bus`: runs and describes a service, named by an import string.

main          the commands, and what each takes
running       what they share: parameters, the loop they run on, how they end by an error
loading       from an import string to a bus
projections, events, deadletters, contracts   the commands of those names
checking      asks the worker of this machine how it is
tables, times   how listings look; how people give times
"""

from bus.cli.main import main

__all__ = ["main"]

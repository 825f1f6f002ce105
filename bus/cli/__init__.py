"""The command `bus`: runs and describes a service, named by an import string.

main          the commands, and what each takes
running       what they share: parameters, the loop they run on, how an error ends them
loading       from an import string to a bus
projections, aggregates, events, deadletters, contracts, stores   the commands of those names
operating     `topology`, what RabbitMQ should hold and what it holds
checking      asks the worker on this machine for its health
tables        how listings are printed, and how people write times
"""

from bus.cli.main import main

__all__ = ["main"]

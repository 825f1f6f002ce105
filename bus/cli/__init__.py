"""The command `bus`: runs and describes a service, named by an import string."""

from bus.cli.main import main

__all__ = ["main"]

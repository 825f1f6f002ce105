"""What can go wrong with a service.

ServiceError
├── ServiceUnavailable   it cannot be had, or does not start: the message names the remedy
└── CommandFailed        a node refused a control command
"""


class ServiceError(Exception):
    """Anything that went wrong with a service."""


class ServiceUnavailable(ServiceError):
    """A service cannot be had here; the message says why and what to do."""


class CommandFailed(ServiceError):
    """A node refused a control command."""

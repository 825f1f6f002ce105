"""What a service declares, checked as a whole before anything is built from it. No I/O."""

from collections.abc import Sequence
from typing import Any

from bus.errors import ConfigurationError
from bus.messages import Message
from bus.read.projection import Projection
from bus.router import Router


def check_declarations(
    service: str, routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> None:
    """Names and types are each used once. Raises: ConfigurationError."""
    if not (service.isidentifier() and service.islower() and len(service) <= 50):
        raise ConfigurationError(
            f"Bus({service!r}): the name becomes that of exchanges and queues; use lower-case "
            f"letters, digits and underscores, 50 at most"
        )
    names = [
        "commands",
        "events",
        "dead",
        *(r.name for r in routers),
        *(p.name for p in projections),
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"Bus({service!r}): routers and projections name queues, and each name is to be used "
            f"once; rename one of {', '.join(twice)}"
        )
    _check_messages(service, routers, projections)
    _check_views(service, projections)


def _check_messages(
    service: str, routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> None:
    """A wire name is one class: otherwise a message would be read as another one."""
    handled = [m for router in routers for handler in router.handlers for m in handler.messages]
    projected = [event for projection in projections for event in projection.handlers]
    known: dict[str, type[Message]] = {}
    for message in (*handled, *projected):
        other = known.setdefault(message.wire_name, message)
        if other is not message:
            raise ConfigurationError(
                f"Bus({service!r}): {message.__module__}.{message.__qualname__} and "
                f"{other.__module__}.{other.__qualname__} both travel as {message.wire_name!r}; "
                f"give one of them another name, as in `class ...(Event, name=...)`"
            )


def _check_views(service: str, projections: Sequence[Projection[Any]]) -> None:
    views = [projection.view for projection in projections]
    for view in views:
        if views.count(view) > 1:
            raise ConfigurationError(
                f"Bus({service!r}): two projections declare view={view.__name__}, so "
                f"Documents[{view.__name__}] would be either; give each a view of its own"
            )

"""What a service declares, checked as a whole before anything is built from it. No I/O."""

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from bus.errors import ConfigurationError
from bus.messages import Event, registry_of
from bus.read.projection import Projection
from bus.router import Router
from bus.write.aggregate import Aggregate
from bus.write.repository import Repository


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
    registry_of(f"Bus({service!r})", (*handled, *projected))
    for aggregate in aggregates_of(routers, projections):
        aggregate.events()


def _check_views(service: str, projections: Sequence[Projection[Any]]) -> None:
    views = [projection.view for projection in projections]
    for view in views:
        if views.count(view) > 1:
            raise ConfigurationError(
                f"Bus({service!r}): two projections declare view={view.__name__}, so "
                f"Documents[{view.__name__}] would be either; give each a view of its own"
            )


def aggregates_of(
    routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> list[type[Aggregate]]:
    """The aggregates that handlers have repositories of, and those that feed projections."""
    asked = (kind for router in routers for one in router.handlers for kind in one.dependencies)
    repositories = (get_args(kind)[0] for kind in asked if get_origin(kind) is Repository)
    fed = (kind for projection in projections for kind in projection.of)
    found = (one for one in (*repositories, *fed) if isinstance(one, type))
    return list(dict.fromkeys(one for one in found if issubclass(one, Aggregate)))


def events_of(
    routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> list[type[Event]]:
    """Every class that a service reads events with, those of its aggregates first."""
    recorded = [
        event for one in aggregates_of(routers, projections) for event in one.events().values()
    ]
    handled = [m for router in routers for handler in router.handlers for m in handler.messages]
    projected = [event for projection in projections for event in projection.handlers]
    found = (*recorded, *handled, *projected)
    return list(dict.fromkeys(one for one in found if issubclass(one, Event)))

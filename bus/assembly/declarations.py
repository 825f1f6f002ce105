"""Checks what a service declares as a whole, before anything is built from it. No I/O."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bus.assembly.served import check_served
from bus.data.ids import is_category
from bus.data.limits import size_of
from bus.declare.registry import registry_of
from bus.declare.router import Router
from bus.dispatch.dependencies import repositories_of
from bus.errors import ConfigurationError
from bus.messages import Event, Fault, Message
from bus.read.projection import Projection
from bus.settings import MEMORY, Settings
from bus.stores.session import OWN_COLLECTIONS
from bus.transports.feed import Feed
from bus.write.aggregate import Aggregate

GENERATION = re.compile(r"(.+)__v\d+(?:r\d+)?$")


def check_declarations(
    service: str,
    routers: Sequence[Router],
    projections: Sequence[Projection[Any]],
    foreign: Mapping[str, str],
) -> None:
    """Checks that names and types are each used once, and nothing foreign is the service's own.

    Raises: ConfigurationError.
    """
    if not _names_a_service(service):
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
            f"once; rename one of {', '.join(twice)}, the one that is new: in the other's queue "
            f"there may be messages"
        )
    check_served(routers, projections, aggregates_of(routers, projections))
    _check_collections(service, routers, projections)
    _check_messages(service, routers, projections)
    _check_categories(service, routers, projections)
    _check_views(service, projections)
    for category, owner in foreign.items():
        _check_foreign(service, category, owner)
        _check_not_own(service, category, routers)
        _check_followed(service, category, routers, projections)


def _names_a_service(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and name.islower() and size_of(name) <= 50


def _check_foreign(service: str, category: str, owner: str) -> None:
    if not is_category(category):
        raise ConfigurationError(
            f"Bus({service!r}): foreign= has the key {category!r}, which is not a valid category; "
            f"use lower-case letters, digits and underscores, as in foreign={{'job': 'jobs'}}"
        )
    if problem := _wrong_owner(service, category, owner):
        raise ConfigurationError(
            f"Bus({service!r}): foreign={{{category!r}: {owner!r}}}: {problem}"
        )


def _wrong_owner(service: str, category: str, owner: str) -> str:
    remedy = (
        f"give the name of the service that writes {category!r}, as it stands in its Bus(...), or "
        f"take the entry out"
    )
    if owner == service:
        return f"{owner!r} is this service itself; {remedy}"
    if category == service:
        return (
            f"{category!r} is the category of what this service publishes itself; take the entry "
            f"out, or rename this service"
        )
    return "" if _names_a_service(owner) else f"{owner!r} cannot be a service's name; {remedy}"


def _check_not_own(service: str, category: str, routers: Sequence[Router]) -> None:
    for handler in (handler for router in routers for handler in router.handlers):
        for aggregate in repositories_of(handler):
            if aggregate.category == category:
                raise ConfigurationError(
                    f"{handler.name} takes {aggregate.__name__} from its Repository, and "
                    f"Bus({service!r}) says that {category!r} belongs to another service; take it "
                    f"out of foreign=, or let its owner handle that command"
                )


def _check_followed(
    service: str,
    category: str,
    routers: Sequence[Router],
    projections: Sequence[Projection[Any]],
) -> None:
    handles = any(handler.kind == "event" for router in routers for handler in router.handlers)
    if not handles and not any(category in projection.categories for projection in projections):
        raise ConfigurationError(
            f"Bus({service!r}): foreign={{{category!r}: ...}} has no use here: no projection has a "
            f"class with category={category!r} in its of=, and no router handles events; add one, "
            f"or correct the name, or take the entry out"
        )


def check_fed(
    service: str, routers: Sequence[Router], settings: Settings, feeds: Mapping[str, Feed]
) -> None:
    """Checks that an event that comes by a feed is safe until its handlers are done with it.

    Raises: ConfigurationError.
    """
    handlers = [h for router in routers for h in router.handlers if h.kind == "event"]
    if feeds and handlers and settings.amqp_url == MEMORY and settings.mongo_url != MEMORY:
        raise ConfigurationError(
            f"Bus({service!r}): {handlers[0].name} handles events, some of which come by a feed, "
            f"and with BUS_AMQP_URL=memory:// those that wait for it would be lost with the "
            f"process; give the service a broker, or let projections alone take these events"
        )


def _check_messages(
    service: str, routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> None:
    """Checks that a wire name is one class: otherwise a message could be read as another one."""
    handled = [m for router in routers for handler in router.handlers for m in handler.messages]
    projected = [event for projection in projections for event in projection.handlers]
    recorded = _recorded(aggregates_of(routers, projections))
    everything: list[type[Message]] = [*handled, *projected, *recorded, Fault]
    registry_of(f"Bus({service!r})", everything)


def _check_categories(
    service: str, routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> None:
    """Checks that a category is one aggregate's, whose streams nobody else writes."""
    owners: dict[str, type[Aggregate]] = {}
    for aggregate in aggregates_of(routers, projections):
        if aggregate.category == service:
            raise ConfigurationError(
                f"Bus({service!r}): {_place(aggregate)} has the category {service!r}, and what the "
                f"service publishes itself goes under that name too; before anything is stored, "
                f"give the aggregate another one, as in class "
                f"{aggregate.__name__}(Aggregate, category=...), or rename the service: stored "
                f"streams keep their category"
            )
        other = owners.setdefault(aggregate.category, aggregate)
        if other is not aggregate:
            raise ConfigurationError(
                f"Bus({service!r}): {_place(other)} and {_place(aggregate)} both have the category "
                f"{aggregate.category!r}, so each would read the other's streams; give another to "
                f"the one that has no stored streams, as in class "
                f"{aggregate.__name__}(Aggregate, category=...): those keep their category"
            )


def _check_collections(
    service: str, routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> None:
    """Checks that no router has the name of a projection's collection, nor any of these a name
    of the bus's own."""
    named = {projection.name for projection in projections}
    for router in routers:
        if (found := GENERATION.match(router.name)) and found[1] in named:
            raise ConfigurationError(
                f"Bus({service!r}): Router({router.name!r}): names with __v and a number are kept "
                f"for the collections of projection {found[1]!r} and their queues; rename the "
                f"router"
            )
    for name in sorted(named & OWN_COLLECTIONS):
        raise ConfigurationError(
            f"Bus({service!r}): Projection({name!r}): that collection is the bus's own; choose "
            f"another name"
        )


def _place(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_views(service: str, projections: Sequence[Projection[Any]]) -> None:
    owners: dict[type, str] = {}
    for projection in (projection for projection in projections if projection.sink is None):
        other = owners.setdefault(projection.view, projection.name)
        if other != projection.name:
            view = projection.view.__name__
            raise ConfigurationError(
                f"Bus({service!r}): the projections {other!r} and {projection.name!r} both declare "
                f"view={view}, so Documents[{view}] would be ambiguous; give each a view class of "
                f"its own"
            )


def aggregates_of(
    routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> list[type[Aggregate]]:
    """Returns the aggregates that handlers have repositories of or that feed projections."""
    handlers = (handler for router in routers for handler in router.handlers)
    found = [aggregate for handler in handlers for aggregate in repositories_of(handler)]
    fed = (kind for projection in projections for kind in projection.of)
    found += (kind for kind in fed if isinstance(kind, type) and issubclass(kind, Aggregate))
    return list(dict.fromkeys(found))


def taken_categories(
    service: str,
    routers: Sequence[Router],
    projections: Sequence[Projection[Any]],
    foreign: Mapping[str, str],
) -> dict[str, str]:
    """Returns, by category, why no event may name a stream of it."""
    owned = {
        category: f"belongs to the service {owner!r}, which alone writes it; name another one"
        for category, owner in foreign.items()
    }
    own = "is the service's own; leave stream= out, or name another category"
    return {**taken_by(aggregates_of(routers, projections)), **owned, service: own}


def taken_by(aggregates: Sequence[type[Aggregate]]) -> dict[str, str]:
    """Returns, by category of these aggregates, why no event may name a stream of it."""
    return {
        aggregate.category: (
            f"is that of the aggregate {aggregate.__name__}, which alone writes its streams; "
            f"record the event on it, or name another category"
        )
        for aggregate in aggregates
    }


def events_of(
    routers: Sequence[Router], projections: Sequence[Projection[Any]]
) -> list[type[Event]]:
    """Returns all classes that a service reads events with, those of its aggregates first."""
    recorded = _recorded(aggregates_of(routers, projections))
    handled = [m for router in routers for handler in router.handlers for m in handler.messages]
    projected = [event for projection in projections for event in projection.handlers]
    found = (*recorded, *handled, *projected)
    return list(dict.fromkeys(message for message in found if issubclass(message, Event)))


def _recorded(aggregates: Sequence[type[Aggregate]]) -> list[type[Event]]:
    return [event for aggregate in aggregates for event in aggregate.events().values()]

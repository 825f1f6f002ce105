"""Checks whether what a service declares can ever run, as far as that is certain. No I/O."""

import inspect
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

from bus.common.calls import made_for
from bus.declare.router import Handler, Router
from bus.errors import ConfigurationError
from bus.messages import Command, Event, Message
from bus.observe.log import Logger
from bus.read.projection import Projection
from bus.stores.sinks.sent import EventSink
from bus.write.aggregate import Aggregate, check_stored, not_read_back
from bus.write.unit_of_work import Outbox

Routers = Sequence[Router]
Projections = Sequence[Projection[Any]]
Named = tuple[str, type[Message], Container[type[Message]]]
"""A handler's name, a message that it names, and all that are handled in that place."""

log = Logger("bus")


def check_served(
    routers: Routers, projections: Projections, aggregates: Sequence[type[Aggregate]]
) -> None:
    """Raises: ConfigurationError for what could never run."""
    _check_bases(_known(routers, projections, aggregates), _named(routers, projections))
    for aggregate in aggregates:
        _check_recorded(aggregate)
        check_stored(aggregate)


def freeze(service: str, routers: Routers, projections: Projections) -> None:
    """Refuses handlers that are added to them from now on: the bus would not notice them."""
    for router in routers:
        router.frozen_by = service
    for projection in projections:
        projection.frozen_by = service


def warn_never_served(service: str, routers: Routers, projections: Projections) -> None:
    """Logs what is most likely a mistake, but may be meant."""
    for reason in never_served(service, routers, projections):
        log.warning("never_served", reason=reason)


def never_served(service: str, routers: Routers, projections: Projections) -> Iterator[str]:
    """Yields what is most likely a mistake, but may be meant."""
    empty = [f"Router({router.name!r})" for router in routers if not router.handlers]
    idle = [p for p in projections if not p.handlers and not isinstance(p.sink, EventSink)]
    empty += [f"Projection({projection.name!r})" for projection in idle]
    for name in empty:
        yield (
            f"{name} of Bus({service!r}) has no handlers; import the modules that register them "
            f"before Bus(...) is built, or leave it out"
        )
    handlers = [handler for router in routers for handler in router.handlers]
    handled = {message for handler in handlers for message in handler.messages}
    for handler in handlers:
        for command in _made_by(handler, "send", Command):
            if command not in handled:
                yield (
                    f"{handler.name} sends {command.__name__} through its Outbox, and no router of "
                    f"Bus({service!r}) handles it; add its router to Bus(routers=[...])"
                )
    for projection in projections:
        yield from _not_of(projection)
    yield from _unknown_heirs(_named(routers, projections))


def _made_by(handler: Handler, method: str, base: type[Message]) -> Iterator[type[Message]]:
    """Yields what it gives to its Outbox, as far as that is certain."""
    for asked in handler.dependencies:
        if asked.kind is Outbox:
            for made in made_for(handler.function, method, asked.name):
                if issubclass(made, base):
                    yield made


def _not_of(projection: Projection[Any]) -> Iterator[str]:
    """Yields events that the projection handles and none of the aggregates that feed it records."""
    recorded: set[str] = set()
    for kind in projection.of:
        named = kind.events() if isinstance(kind, type) and issubclass(kind, Aggregate) else {}
        if not named:  # it stands for another service's category, and says nothing of its events
            return
        recorded |= named.keys()
    aggregates = ", ".join(kind.__name__ for kind in projection.of)
    for event, handler in projection.handlers.items():
        if recorded.isdisjoint(event.wire_names()):
            yield (
                f"{handler.name} handles {event.__name__}, and the streams that feed "
                f"Projection({projection.name!r}, of=[{aggregates}]) hold none: add the aggregate "
                f"that records it to of=[...], or, where an aggregate of these recorded it once, "
                f"list it there, as in class ...(Aggregate, events=[{event.__name__}])"
            )


def _check_bases(known: Sequence[type[Message]], named: Iterable[Named]) -> None:
    """Refuses a handler that names a base class: it would never run for the subclasses."""
    for handler, message, handled in named:
        passed = [heir for heir in known if heir not in handled and _is_heir(heir, message)]
        if passed:
            raise ConfigurationError(
                f"{handler} handles {message.__name__}, which is a base class: it would run for "
                f"{message.__name__} itself, and never for its subclasses ({_names(passed)}); "
                f"name each class that it is to run for, or let these inherit from another class"
            )


def _unknown_heirs(named: Iterable[Named]) -> Iterator[str]:
    """Yields handlers of base classes whose subclasses, declared beside them, the bus may meet."""
    for handler, message, handled in named:
        heirs = (heir for heir in _beside(message) if _is_heir(heir, message))
        passed = [heir for heir in heirs if heir not in handled]
        if passed:
            yield (
                f"{handler} handles {message.__name__}, and never runs for its subclasses "
                f"({_names(passed)}); name each class that it is to run for"
            )


def _named(routers: Routers, projections: Projections) -> Iterator[Named]:
    handlers = [handler for router in routers for handler in router.handlers]
    called = {m for handler in handlers if handler.kind != "event" for m in handler.messages}
    for router in routers:
        listening = [handler for handler in router.handlers if handler.kind == "event"]
        heard = {message for handler in listening for message in handler.messages}
        for handler in router.handlers:
            for message in handler.messages:
                yield handler.name, message, heard if handler.kind == "event" else called
    for projection in projections:
        for event, projecting in projection.handlers.items():
            yield projecting.name, event, projection.handlers.keys()


def _known(
    routers: Routers, projections: Projections, aggregates: Sequence[type[Aggregate]]
) -> list[type[Message]]:
    """Returns the messages that this bus's declarations name, whatever else is imported."""
    handlers = [handler for router in routers for handler in router.handlers]
    found = [message for handler in handlers for message in handler.messages]
    found += (event for projection in projections for event in projection.handlers)
    found += (event for aggregate in aggregates for event in aggregate.events().values())
    for handler in handlers:
        found += (*_made_by(handler, "send", Command), *_made_by(handler, "publish", Event))
    return found


def _is_heir(message: type[Message], base: type[Message]) -> bool:
    """Returns whether it is a subclass and another message, unlike a generic class with parameters,
    which is read as the class itself."""
    is_one = issubclass(message, base) and message is not base
    return is_one and message.wire_name not in base.wire_names()


def _beside(base: type[Message]) -> Iterator[type[Message]]:
    for heir in base.__subclasses__():
        if _scope(heir) == _scope(base):
            yield heir
        yield from _beside(heir)


def _names(messages: Iterable[type[Message]]) -> str:
    return ", ".join(sorted({message.__name__ for message in messages}))


def _scope(kind: type[Any]) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__.rpartition(".")[0]


def _check_recorded(aggregate: type[Aggregate]) -> None:
    read = aggregate.events()
    for name, method in inspect.getmembers(aggregate, inspect.isfunction):
        own, *_ = [*method.__code__.co_varnames, ""]  # `record` of other objects is their affair
        for event in made_for(method, "record", own) if own else ():
            if issubclass(event, Event) and read.get(event.wire_name) is not event:
                raise ConfigurationError(not_read_back(aggregate, event, f".{name}()"))

"""Fills a handler's further parameters by type, resolved once when the bus is built.

No scopes, no nested resolution, no globals: a parameter is a value that the service provides, or
something that the bus knows for each message.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from bus.errors import ConfigurationError
from bus.messages import Envelope
from bus.read.documents import Documents
from bus.router import Handler
from bus.stores.session import Session
from bus.write.aggregate import Aggregate
from bus.write.repository import Repository
from bus.write.unit_of_work import Outbox, UnitOfWork

Bound = Callable[[UnitOfWork], Awaitable[Any]]
Alone = Callable[[Envelope], Awaitable[Any]]

_THIS_ENVELOPE = object()
Supplier = Callable[[UnitOfWork], Any]


class Provided(NamedTuple):
    """What handlers may ask for: the service's values by type, and the read collections by view."""

    values: Mapping[Any, Any]
    documents: Mapping[type, Documents[Any]]


def bind(handler: Handler, provided: Provided) -> Bound:
    """The handler as `async (unit of work) -> result`. Raises: ConfigurationError."""
    alone = bind_alone(handler, provided)
    if alone is not None:
        return lambda work: alone(work.envelope)
    suppliers = [_supplier(handler, kind, provided) for kind in handler.dependencies]
    function = handler.function
    return lambda work: function(work.envelope.message, *[supply(work) for supply in suppliers])


def bind_alone(handler: Handler, provided: Provided) -> Alone | None:
    """The handler as `async (envelope) -> result`, where nothing that it asks for changes anything.

    None where it needs a unit of work. Raises: ConfigurationError.
    """
    found = [_constant(handler, kind, provided) for kind in handler.dependencies]
    if None in found:
        return None
    function, values = handler.function, [value for (value,) in filter(None, found)]
    if any(value is _THIS_ENVELOPE for value in values):
        return lambda envelope: function(
            envelope.message, *[envelope if v is _THIS_ENVELOPE else v for v in values]
        )
    if len(values) == 1:  # what most ask for, and a list costs time
        (value,) = values
        return lambda envelope: function(envelope.message, value)
    return lambda envelope: function(envelope.message, *values)


def views_of(handler: Handler) -> list[type]:
    """The views whose documents a handler reads."""
    return [get_args(kind)[0] for kind in handler.dependencies if get_origin(kind) is Documents]


def takes_session(handler: Handler) -> bool:
    """Whether an event handler's run is to be one transaction."""
    return Session in handler.dependencies


def _supplier(handler: Handler, kind: Any, provided: Provided) -> Supplier:
    constant = _constant(handler, kind, provided)
    if constant is not None:
        (value,) = constant
        return (lambda work: work.envelope) if value is _THIS_ENVELOPE else lambda _: value
    if kind is Session and handler.kind == "event":
        return lambda work: work.session
    if handler.kind != "query":
        if kind is Outbox:
            return lambda work: work.outbox
        if get_origin(kind) is Repository and issubclass(get_args(kind)[0], Aggregate):
            aggregate = get_args(kind)[0]
            return lambda work: work.repository(aggregate)
    raise ConfigurationError(
        f"{handler.name}: nobody provides {_shown(kind)}; {_remedy(handler, kind)}"
    )


def _constant(handler: Handler, kind: Any, provided: Provided) -> tuple[Any] | None:
    """What needs no unit of work, in a tuple: a value, or that it is the message's envelope."""
    if kind in provided.values:
        return (provided.values[kind],)
    if get_origin(kind) is Documents:
        return (_documents(handler, get_args(kind)[0], provided),)
    return (_THIS_ENVELOPE,) if kind is Envelope else None


def _documents(handler: Handler, view: type, provided: Provided) -> Documents[Any]:
    if view not in provided.documents:
        raise ConfigurationError(
            f"{handler.name}: no projection of this bus declares view={_shown(view)}; "
            f"add it to Bus(projections=[...])"
        )
    return provided.documents[view]


def _remedy(handler: Handler, kind: Any) -> str:
    if handler.kind == "query" and (kind in (Outbox, Session) or get_origin(kind) is Repository):
        return "a query changes nothing, so read Documents[...] instead"
    if kind is Session:
        return (
            "a session is for event handlers; a command stores through Repository[...] and Outbox, "
            "and an event handler writes what follows from its events"
        )
    return f"give a value in Bus(provide={{{_shown(kind)}: ...}})"


def _shown(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)

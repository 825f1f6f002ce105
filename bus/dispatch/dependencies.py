"""Fills a handler's further parameters by type, resolved once when the bus is built.

No scopes, no nested resolution, no globals: a parameter is a value that the service provides, or
something that the bus knows for each message.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from bus.common.signatures import NO_DEFAULT, Dependency, shown
from bus.declare.router import Handler
from bus.dispatch.lending import Lender, Lenders, lending
from bus.errors import ConfigurationError
from bus.messages import Envelope
from bus.read.documents import Documents
from bus.read.projection import Projection
from bus.stores.session import Session
from bus.write.aggregate import Aggregate
from bus.write.repository import Repository
from bus.write.unit_of_work import Outbox, UnitOfWork

Bound = Callable[[UnitOfWork], Awaitable[Any]]
Alone = Callable[[Envelope], Awaitable[Any]]

_THIS_ENVELOPE = object()
Supplier = Callable[[UnitOfWork], Any]


class Provided(NamedTuple):
    """What handlers can ask for: the service's values by type, the read collections by view, and a
    session."""

    values: Mapping[Any, Any]
    documents: Mapping[type, Documents[Any]]
    lends: type = Session
    """The type by which they ask for the session in which they write."""
    lenders: Lenders = Lenders()
    """Who lends queries what they read the collections of sinks with."""

    def read_by(
        self, handler: Handler, by_view: Mapping[type, Projection[Any]]
    ) -> list[Projection[Any]]:
        """Returns the projections that a query's handler reads: by their views, or its lenders."""
        read = [by_view[view] for view in views_of(handler) if view in by_view]
        return read + self.lenders.read_by(handler)


def bind(handler: Handler, provided: Provided) -> Bound:
    """Returns the handler as `async (unit of work) -> result`. Raises: ConfigurationError."""
    alone = bind_alone(handler, provided)
    if alone is not None:
        return lambda work: alone(work.envelope)
    suppliers = [_supplier(handler, asked, provided) for asked in handler.dependencies]
    call = handler.call
    return lambda work: call(work.envelope.message, *[supply(work) for supply in suppliers])


def bind_alone(handler: Handler, provided: Provided) -> Alone | None:
    """Returns the handler as `async (envelope) -> result`, or None if it needs a unit of work.

    Raises: ConfigurationError.
    """
    if handler.kind == "query" and provided.lenders.read_by(handler):
        return _bind_lending(handler, provided)
    found = [_constant(handler, asked, provided) for asked in handler.dependencies]
    if None in found:
        return None
    call, values = handler.call, [value for (value,) in filter(None, found)]
    if any(value is _THIS_ENVELOPE for value in values):
        return lambda envelope: call(
            envelope.message, *[envelope if v is _THIS_ENVELOPE else v for v in values]
        )
    if len(values) == 1:  # the usual case; unpacking a list costs time
        (value,) = values
        return lambda envelope: call(envelope.message, value)
    return lambda envelope: call(envelope.message, *values)


def _bind_lending(handler: Handler, provided: Provided) -> Alone:
    values: list[Callable[[Envelope], Any] | Lender] = []
    for asked in handler.dependencies:
        lender = provided.lenders.of(handler, asked)
        values.append(lender or _given(handler, asked, provided))
    return lending(handler.call, values)


def _given(handler: Handler, asked: Dependency, provided: Provided) -> Callable[[Envelope], Any]:
    constant = _constant(handler, asked, provided)
    if constant is None:
        raise _nobody(handler, asked, provided)
    (value,) = constant
    return (lambda envelope: envelope) if value is _THIS_ENVELOPE else lambda _: value


def views_of(handler: Handler) -> list[type]:
    """Returns the views whose documents a handler reads."""
    return [
        get_args(asked.kind)[0]
        for asked in handler.dependencies
        if get_origin(asked.kind) is Documents
    ]


def repositories_of(handler: Handler) -> list[type[Aggregate]]:
    """Returns the aggregates whose repositories a handler takes."""
    found = (_aggregate_of(asked.kind) for asked in handler.dependencies)
    return [aggregate for aggregate in found if aggregate is not None]


def takes_session(handler: Handler, provided: Provided) -> bool:
    """Returns whether a handler takes a session, so that its run is one transaction."""
    return any(asked.kind is provided.lends for asked in handler.dependencies)


def _supplier(handler: Handler, asked: Dependency, provided: Provided) -> Supplier:
    constant = _constant(handler, asked, provided)
    if constant is not None:
        (value,) = constant
        return (lambda work: work.envelope) if value is _THIS_ENVELOPE else lambda _: value
    of_work = _of_work(handler, asked.kind, provided.lends)
    if of_work is not None:
        return of_work
    raise _nobody(handler, asked, provided)


def _nobody(handler: Handler, asked: Dependency, provided: Provided) -> ConfigurationError:
    remedy = _remedy(handler, asked.kind, provided.lends)
    return ConfigurationError(f"{handler.name}: parameter {asked.name!r}: {remedy}")


def _of_work(handler: Handler, kind: Any, lends: type) -> Supplier | None:
    """Returns what takes a dependency out of a unit of work; None if it is not there."""
    if handler.kind == "query":
        return None
    if kind is lends:
        return lambda work: work.session
    if kind is Outbox:
        return lambda work: work.outbox
    aggregate = _aggregate_of(kind)
    return None if aggregate is None else lambda work: work.repository(aggregate)


def _aggregate_of(kind: Any) -> type[Aggregate] | None:
    """Returns the class of aggregates of a `Repository[...]`; None if `kind` is not one."""
    aggregate = get_args(kind)[0] if get_origin(kind) is Repository else None
    is_one = isinstance(aggregate, type) and issubclass(aggregate, Aggregate)
    return aggregate if is_one and aggregate is not Aggregate else None


def _constant(handler: Handler, asked: Dependency, provided: Provided) -> tuple[Any] | None:
    """Returns a dependency that needs no unit of work: `(value,)` or `(_THIS_ENVELOPE,)`, or None.

    The tuple tells a value that is None from no value.
    """
    for key in (asked.written, asked.kind):
        if _is_key(key, provided.values):
            return (provided.values[key],)
    if asked.kind is Envelope:
        return (_THIS_ENVELOPE,)
    if get_origin(asked.kind) is Documents:
        return (_documents(handler, asked, provided),)
    if asked.default is not NO_DEFAULT and _of_work(handler, asked.kind, provided.lends) is None:
        return (asked.default,)
    return None


def _is_key(key: Any, values: Mapping[Any, Any]) -> bool:
    try:
        return key in values
    except TypeError:  # Annotated may hold what is not hashable
        return False


def _documents(handler: Handler, asked: Dependency, provided: Provided) -> Any:
    (view,) = get_args(asked.kind)
    if view in provided.documents:
        return provided.documents[view]
    if asked.default is not NO_DEFAULT:
        return asked.default
    raise ConfigurationError(
        f"{handler.name}: no projection of this bus declares view={_shown(view)}; "
        f"add it to Bus(projections=[...])"
    )


def _remedy(handler: Handler, kind: Any, lends: type) -> str:
    changes = (
        kind in (Outbox, Session, lends) or _is_sql_session(kind) or get_origin(kind) is Repository
    )
    if handler.kind == "query" and changes:
        return f"a query changes nothing and cannot take {_shown(kind)}; take Documents[...]"
    if kind is not lends and (kind is Session or _is_sql_session(kind)):
        return (
            f"handlers are lent the session of the event log's database, which is "
            f"{_shown(lends)} for this bus; take that, or have the log in "
            f"{'MongoDB (leave BUS_LOG_URL out)' if kind is Session else 'SQL (BUS_LOG_URL)'}"
        )
    if Repository in (kind, get_origin(kind)):
        return "Repository needs the class of an aggregate, as in Repository[Account]"
    if kind is Documents:
        return "Documents needs the view of a projection, as in Documents[AccountView]"
    return f"nobody provides {_shown(kind)}; give a value in Bus(provide={{{_shown(kind)}: ...}})"


def _is_sql_session(kind: Any) -> bool:
    """Returns whether it is SQLAlchemy's AsyncSession, which is not imported for that."""
    module = getattr(kind, "__module__", "") or ""
    return module.startswith("sqlalchemy.") and getattr(kind, "__name__", "") == "AsyncSession"


def _shown(kind: Any) -> str:
    return shown(kind) if get_args(kind) else getattr(kind, "__name__", None) or str(kind)

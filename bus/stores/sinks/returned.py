"""What handlers of a projection with a sink may return and take. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, get_args, get_origin

from bus.common.signatures import NO_DEFAULT, Dependency, Signature, members, shown
from bus.data.ids import key_of
from bus.errors import ConfigurationError, ProjectionError
from bus.messages import Envelope
from bus.stores.collections import ReadUnit, Target, Write
from bus.stores.sink import Increment, Remove, Sink, Upsert


def extra(
    read: Signature, asked: Dependency, sink: Sink, usual: Target
) -> Callable[[Envelope, ReadUnit], Any]:
    """Returns what fills a handler's further parameter. `usual` is the target outside of a batch.

    Raises: ConfigurationError.
    """
    given = sink.given()
    if asked.kind in given:
        give = given[asked.kind]
        return lambda envelope, unit: give(getattr(unit, "target", usual))
    if asked.default is not NO_DEFAULT:
        return lambda envelope, unit: asked.default
    names = ["the Envelope", *(kind.__name__ for kind in given)]
    raise ConfigurationError(
        f"{read.name}: parameter {asked.name!r} is {shown(asked.written)}; besides the event, a "
        f"handler for {type(sink).__name__} takes {' and '.join(names)}, and nothing else"
    )


def is_many(read: Signature, sink: Sink, key: Callable[[Any], Any] | None = None) -> bool:
    """Returns whether a handler may return a list of changes, by its annotation.

    Raises: ConfigurationError if it may return what the sink does not take, or nothing says which
    row or document it changes.
    """
    if read.is_async:
        raise ConfigurationError(
            f"{read.name} is async, and a projection with a sink decides by the event alone; let "
            f"it return what changes, without awaiting anything"
        )
    if read.returns is None:
        raise ConfigurationError(f"{read.name}: it has no return type; {_may_return(sink)}")
    many = False
    for kind in members(read.returns):
        if kind in (Any, type(None)) or _is_change(kind, sink):
            continue
        if not _are_changes(kind, sink):
            raise ConfigurationError(f"{read.name}: it returns {kind!r}; {_may_return(sink)}")
        many = True
    if not (sink.keyed_by_id or key or many):
        raise ConfigurationError(
            f"{read.name}: the id of an aggregate is no key for this {type(sink).__name__}; say "
            f"which one an event changes, as in on(..., key=lambda event: (event.day, "
            f"event.city)), or return (key, change) pairs"
        )
    return many


def are_fed_apart(categories: Sequence[str], handlers: Iterable[Any]) -> bool:
    """Returns whether each document is fed by one stream alone."""
    return len(categories) == 1 and not any(
        handler.key or handler.many or handler.is_async for handler in handlers
    )


def is_row(read: Signature) -> bool:
    """Returns whether all that a handler returns changes one row or document, by its annotation:
    then what a whole stream makes of it can be told without the store."""
    return all(kind in (Upsert, Increment, Remove, type(None)) for kind in members(read.returns))


def _is_change(kind: Any, sink: Sink) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, sink.changes)


def _are_changes(kind: Any, sink: Sink) -> bool:
    origin, entries = get_origin(kind) or kind, get_args(kind)
    if not (isinstance(origin, type) and issubclass(origin, Iterable)) or origin in (str, bytes):
        return False
    return all(_is_entry(part, sink) for entry in entries for part in members(entry))


def _is_entry(kind: Any, sink: Sink) -> bool:
    if kind in (Any, ...) or _is_change(kind, sink):
        return True
    parts = get_args(kind)
    if get_origin(kind) is not tuple or len(parts) != 2:
        return False
    return all(part is Any or _is_change(part, sink) for part in members(parts[1]))


def _may_return(sink: Sink) -> str:
    names = [kind.__name__ for kind in sink.changes]
    return (
        f"for {type(sink).__name__} it returns {', '.join(names)} or None, or a list of such "
        f"changes or of (key, change) pairs: annotate it, as in `-> {names[0]}` or `-> "
        f"list[tuple[str, {names[0]}]]`"
    )


class Registered(Protocol):
    """A handler, as its projection has it: `key` names what it changes, `place` it itself."""

    @property
    def key(self) -> Callable[[Any], Any] | None: ...

    @property
    def many(self) -> bool: ...

    @property
    def place(self) -> str: ...


def writes(changed: Any, envelope: Envelope, handler: Registered, sink: Sink) -> list[Write]:
    """Returns what a handler returned as writes of its event. Raises: ProjectionError."""

    def write(key: Any, change: Any) -> Write:
        if not isinstance(change, sink.changes):
            what = type(change).__name__
            raise ProjectionError(f"{handler.place} returned {what}; {_may_return(sink)}")
        try:
            sink.check(key, change)
        except ProjectionError as error:
            raise ProjectionError(f"{handler.place}: {error}") from None
        return Write(
            key=key,
            update=change,
            by=handler.place,
            stream=envelope.stream,
            version=envelope.version,
        )

    def usual() -> Any:
        return handler.key(envelope.message) if handler.key else key_of(envelope.stream)

    if changed is None:
        return []
    if not (handler.many and isinstance(changed, Sequence)):
        return [write(usual(), changed)]
    return [
        write(*entry) if type(entry) is tuple and len(entry) == 2 else write(usual(), entry)
        for entry in changed
    ]

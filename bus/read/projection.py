"""Projection: declares a read collection, and how each event changes it. No I/O."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast, get_args, get_origin, overload

from pydantic import BaseModel
from typing_extensions import TypeVar as Defaulted

from bus.common.figures import whole
from bus.common.signatures import (
    NO_DEFAULT,
    Dependency,
    Signature,
    members,
    not_called,
    shown,
    signature_of,
)
from bus.data.ids import is_category, key_of
from bus.data.limits import not_text, plain_text
from bus.declare.registry import registry_of
from bus.declare.router import check_not_frozen, check_queue_name
from bus.errors import ConfigurationError, ProjectionError
from bus.messages import Envelope, Event, is_event
from bus.read.documents import Documents
from bus.read.views import check_place, check_written
from bus.stores.collections import Index, ReadUnit, Target, Write
from bus.stores.sink import Sink
from bus.stores.sinks import returned as sinks
from bus.stores.sinks.sent import EventSink, EveryEvent
from bus.transports.topology import SLOTS

MOST_VERSION = 2**53 - 1
"""The version is part of the names of collections and queues."""

View_co = Defaulted("View_co", bound=BaseModel, covariant=True, default=BaseModel)
First = TypeVar("First", bound=Event)
Second = TypeVar("Second", bound=Event)
Third = TypeVar("Third", bound=Event)
Function = TypeVar("Function", bound=Callable[..., Any])

FIRST = "__v1"
Key = str | tuple[Any, ...]
"""What names a document; in a table whose primary key has several columns, their values."""
Update = Mapping[str, Any]
"""A MongoDB update of one document, as `{"$set": {"owner": "Ada"}}`."""


class Delete:
    """Returned by a projection's handler to delete the document."""


Change = Update | Delete
Extra = Callable[[Envelope, ReadUnit], Any]


class ProjectionHandler(NamedTuple):
    """A handler of one type of event. With `many`, it may return (key, change) pairs; if it
    `is_row`, what it returns changes one row of a sink."""

    name: str
    call: Callable[..., Any]
    key: Callable[[Any], Key] | None
    extras: tuple[Extra, ...]
    many: bool
    is_async: bool
    is_row: bool
    place: str
    """The names of the handler and its projection, for errors."""


class Projection(Generic[View_co]):
    """A read collection, kept equal to the fold of its categories' events.

    `of` lists the aggregates whose streams feed it, or, for streams that events name
    (`Outbox.publish(event, stream="price_list-eur")`), a class with their category:
    `class PriceList: category = "price_list"`. `view` is what a reader gets. `name` names a
    collection and a durable queue: renaming it builds a new one. A raised `version` builds a new
    one from the log, too, and readers read the old one until it is there: raise it whenever the
    handlers begin to make something else of past events. `partitions` is how many workers can share
    its load (each stream stays with one of them). `indexes` are created with the collection.

    With a `sink` it is kept in another technology (a table, a search index): its handlers return
    what that takes, queries read with that technology's own client, and there is neither a `view`
    nor `indexes`.
    """

    def __init__(
        self,
        name: str,
        *,
        of: Sequence[Any],
        view: type[View_co] | None = None,
        sink: Sink | None = None,
        version: int = 1,
        partitions: int = 1,
        indexes: Sequence[Index] = (),
    ) -> None:
        where = f"Projection({name!r:.100})"
        check_queue_name(name, f"{where}: the name becomes a collection's and a queue's")
        if re.search(r"__v\d+(r\d+)?$", name):
            raise ConfigurationError(
                f"Projection({name!r}): the bus names collections so, by a version after __v; "
                f"take that away, and give the number as version="
            )
        if not (isinstance(of, list | tuple) and of and all(map(_has_category, of))):
            raise ConfigurationError(
                f"Projection {name!r}: of= lists aggregates' classes, one at least, as in "
                f"of=[Account]; for streams that events name, write a class with nothing but "
                f"`category = ...`: lower-case letters, digits and underscores"
            )
        check_place(name, view, sink, indexes)
        self.name = name
        self._view = view
        self.sink = sink
        self.of = tuple(of)
        self.categories: tuple[str, ...] = tuple(kind.category for kind in of)
        self.version = whole(version, f"{where}: version", least=1, most=MOST_VERSION)
        self.partitions = whole(partitions, f"{where}: partitions", least=1, most=SLOTS)
        self.indexes = tuple(indexes)
        self.handlers: dict[type[Event], ProjectionHandler] = {}
        self.frozen_by = ""
        """The service whose bus was built with it: a handler registered later would never run."""

    @property
    def view(self) -> type[View_co]:
        """What a reader gets. Raises: ConfigurationError if it has a sink instead."""
        if self._view is None:
            raise ConfigurationError(
                f"Projection {self.name!r} has a sink, and no view; read it with the sink's client"
            )
        return self._view

    @property
    def place(self) -> str:
        """The kind of place that keeps it, as `Target.place`."""
        return self.sink.kind if self.sink else ""

    # Overloads, because mypy would infer for several types their common base, which may be Event.
    @overload
    def on(
        self,
        first: type[First],
        second: type[Second],
        /,
        *,
        key: Callable[[First | Second], Key] | None = None,
    ) -> Callable[[Function], Function]: ...
    @overload
    def on(
        self,
        first: type[First],
        second: type[Second],
        third: type[Third],
        /,
        *,
        key: Callable[[First | Second | Third], Key] | None = None,
    ) -> Callable[[Function], Function]: ...
    @overload
    def on(
        self, *events: type[First], key: Callable[[First], Key] | None = None
    ) -> Callable[[Function], Function]: ...

    def on(
        self, *events: type[Any], key: Callable[[Any], Key] | None = None
    ) -> Callable[[Function], Function]:
        """Registers the decorated function as the handler of events of these types.

        The function takes the event and, if it asks for them by type, the `Envelope` and (only if
        it is `async`) this projection's `Documents`, inside the batch's transaction. It returns a
        MongoDB update, `Delete()`, None, or a list of (key, change) pairs. The document is the one
        with the aggregate's id, or the one that `key` names. The function must be pure, because it
        may run several times for one event. Raises: ConfigurationError.
        """

        self._check_events(events)
        self._check_key(key)

        def register(function: Function) -> Function:
            handler = self._handler(events, function, key)
            check_not_frozen(handler.name, f"Projection({self.name!r})", self.frozen_by)
            for event in events:
                if event in self.handlers:
                    raise ConfigurationError(
                        f"{handler.name}: {event.__name__} is handled by "
                        f"{self.handlers[event].name} in projection {self.name!r} already; "
                        f"remove one"
                    )
                self.handlers[event] = handler
            return function

        return register

    def target(self) -> Target:
        """Returns the first collection of its version.

        Whether documents hold the streams' versions follows from the declaration alone.
        """
        own_streams = sinks.are_fed_apart(self.categories, self.handlers.values())
        collection = collection_of(self.name, self.version)
        own_streams = own_streams and (self.sink is None or self.sink.versions_in_documents)
        return Target(self.name, collection, own_streams, self.indexes, place=self.place)

    def registry(self) -> dict[str, type[Event]]:
        """Returns the events that it handles, by wire name, former names included; others only
        count as versions. Raises: ConfigurationError if two classes claim one name."""
        if isinstance(self.sink, EventSink):
            return EveryEvent()
        return registry_of(f"projection {self.name!r}", self.handlers)

    def writes_itself(self, envelope: Envelope) -> bool:
        """Returns whether the event's handler may write within the transaction, by `Documents`."""
        handler = self.handlers.get(type(envelope.message))  # type: ignore[arg-type]
        return handler is not None and handler.is_async

    async def changes(self, envelope: Envelope, unit: ReadUnit) -> list[Write]:
        """Returns what one event changes. Raises: ProjectionError, and what the handler raises."""
        handler = self.handlers.get(type(envelope.message))  # type: ignore[arg-type]
        if handler is None:
            return self.sink.writes(envelope) if isinstance(self.sink, EventSink) else []
        extras = handler.extras and [extra(envelope, unit) for extra in handler.extras]
        changed = handler.call(envelope.message, *extras)
        if type(changed) is not dict and isinstance(changed, Awaitable):
            changed = await changed
        if self.sink is not None:
            return sinks.writes(changed, envelope, handler, self.sink)
        writes = _writes(handler, envelope, changed)
        try:
            for write in writes:
                check_written(cast(type[BaseModel], self._view), write.key, write.update)
        except ProjectionError as error:
            raise ProjectionError(f"{handler.place}: {error}") from None
        return writes

    def _handler(
        self,
        events: Sequence[type[Event]],
        function: Callable[..., Any],
        key: Callable[[Any], Key] | None,
    ) -> ProjectionHandler:
        read = signature_of(function)
        taken = tuple(kind for kind in members(read.first) if isinstance(kind, type))
        for event in events:
            if not issubclass(event, taken):
                raise ConfigurationError(
                    f"{read.name}: registered for {event.__name__}, but its first parameter is "
                    f"{shown(read.first)}; let it take {event.__name__}, or register it "
                    f"for what it takes"
                )
        return ProjectionHandler(
            name=read.name,
            call=read.call,
            key=key,
            extras=tuple(self._extra(read, asked) for asked in read.dependencies),
            many=_is_many(read) if self.sink is None else sinks.is_many(read, self.sink, key),
            is_async=read.is_async,
            is_row=sinks.is_row(read),
            place=f"{read.name} (projection {self.name!r})",
        )

    def _extra(self, read: Signature, asked: Dependency) -> Extra:
        if asked.kind is Envelope:
            return lambda envelope, unit: envelope
        if self.sink is not None:
            return sinks.extra(read, asked, self.sink, self.target())
        if read.is_async and asked.kind == Documents[self.view]:  # type: ignore[name-defined]
            return lambda envelope, unit: Documents(
                unit.documents, self.view, writing=unit.documents
            )
        if asked.default is not NO_DEFAULT:
            return lambda envelope, unit: asked.default
        raise ConfigurationError(
            f"{read.name}: parameter {asked.name!r} is {shown(asked.written)}; a "
            f"projection's handler takes the event, the Envelope and, when async, "
            f"Documents[{self.view.__name__}], and nothing else"
        )

    def _check_key(self, key: Any) -> None:
        if key is None:
            return
        problem = f"{key!r:.100} cannot be called"
        if callable(key):
            problem = "it is async" if inspect.iscoroutinefunction(key) else not_called(key)
        if problem:
            raise ConfigurationError(
                f"Projection {self.name!r}: on(key=...): {problem}; give a function that takes the "
                f"event alone and returns the document's key, as in key=lambda event: "
                f"event.order_id"
            )

    def _check_events(self, events: Sequence[Any]) -> None:
        if isinstance(self.sink, EventSink):
            raise ConfigurationError(
                f"Projection {self.name!r}: on(...): {type(self.sink).__name__} is sent every "
                f"event of its categories as it is, and a handler would never run; take it out"
            )
        for event in events or (None,):
            if not is_event(event):
                raise ConfigurationError(
                    f"Projection {self.name!r}: on({'' if event is None else repr(event)}) names "
                    f"no event; write the classes one by one, as in @projection.on(Opened, Closed)"
                )


def _has_category(kind: Any) -> bool:
    return isinstance(kind, type) and is_category(getattr(kind, "category", None))


def _is_many(read: Signature) -> bool:
    """Returns whether a handler may return pairs, by its annotation. Raises: ConfigurationError."""
    if read.returns is None:
        raise ConfigurationError(
            f"{read.name}: it has no return type; annotate it, as in `-> Update` (one document) or "
            f"`-> list[tuple[str, Update]]` (several)"
        )
    kinds = members(read.returns)
    for kind in kinds:
        origin = get_origin(kind) or kind
        is_pair = origin is tuple and get_args(kind)[:1] == (str,) and ... not in get_args(kind)
        is_other = isinstance(origin, type) and not _is_change(origin)
        if is_pair or is_other or not _may_hold_pairs(kind):
            raise ConfigurationError(
                f"{read.name}: it returns {kind!r}; it may return an update, Delete(), None, or a "
                f"list of (key, change) pairs, as in `-> Update` or `-> list[tuple[str, Update]]`"
            )
    return not all(
        kind in (type(None), Delete) or get_origin(kind) in (dict, Mapping) for kind in kinds
    )


def _may_hold_pairs(kind: Any) -> bool:
    origin, entries = get_origin(kind), get_args(kind)
    if not isinstance(origin, type) or not issubclass(origin, Iterable):
        return True
    if issubclass(origin, Mapping):  # one update
        return True
    return all(any(map(_may_be_pair, members(entry))) for entry in entries if entry is not ...)


def _may_be_pair(kind: Any) -> bool:
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if not isinstance(origin, type) or origin in (Any, object):
        return True
    if origin is tuple and parts and ... not in parts:
        return len(parts) == 2
    return issubclass(origin, Iterable) and not issubclass(
        origin, str | bytes | Mapping | BaseModel
    )


def _is_change(kind: type[Any]) -> bool:
    if kind in (Any, object, type(None), Delete):
        return True
    return issubclass(kind, Iterable | Awaitable) and not issubclass(
        kind, str | bytes | Iterator | BaseModel
    )


def _writes(handler: ProjectionHandler, envelope: Envelope, changed: Any) -> list[Write]:
    if changed is None:
        return []
    # `type is dict` first: nearly all are dicts, and isinstance with Mapping is slow.
    if type(changed) is dict or isinstance(changed, Mapping | Delete):
        key = handler.key(envelope.message) if handler.key else key_of(envelope.stream)
        return [_write(handler, key, changed)]
    if isinstance(changed, list | tuple) and handler.many:
        return [_write(handler, key, change) for key, change in _pairs(handler, changed)]
    raise ProjectionError(
        f"{handler.place} returned {type(changed).__name__}; it may return an update, "
        f"Delete(), None, or (where its return type says so) a list of (key, change) pairs"
    )


def _pairs(handler: ProjectionHandler, changed: Iterable[Any]) -> list[tuple[Any, Any]]:
    try:
        return [(key, change) for key, change in changed]
    except (TypeError, ValueError):
        raise ProjectionError(
            f"{handler.place} returned a list with an entry that is no pair of a key and a change"
        ) from None


def _write(handler: ProjectionHandler, key: Any, change: Any) -> Write:
    if not isinstance(key, str) or not key:
        what = not_text("a document's key", key) if key != "" else "a document's key is not empty"
        raise ProjectionError(f"{handler.place}: {what}")
    return Write(plain_text(key), None if isinstance(change, Delete) else change, handler.place)


def collection_of(projection: str, version: int, run: int = 1) -> str:
    """Returns the name of the collection of a version's first, second ... run."""
    return f"{projection}__v{version}" + (f"r{run}" if run > 1 else "")


def queue_of(collection: str) -> str:
    """Returns the name of a collection's queues, which follows the service's name."""
    return collection.removesuffix(FIRST)

"""Projection: the declaration of a read collection, and how each event changes it. No I/O."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, get_origin

from pydantic import BaseModel

from bus.errors import ConfigurationError, ProjectionError
from bus.messages import Envelope, Event, key_of, registry_of
from bus.read.documents import Documents
from bus.read.lineage import collection_of
from bus.router import members, name_of, parameter_types
from bus.stores.base import Index, ReadUnit, Target, Write
from bus.transports.topology import SLOTS

View = TypeVar("View", bound=BaseModel)
AnyEvent = TypeVar("AnyEvent", bound=Event)
Function = TypeVar("Function", bound=Callable[..., Any])

Update = Mapping[str, Any]
"""A MongoDB update of one document, as `{"$set": {"owner": "Ada"}}`."""


class Delete:
    """What a projection's handler returns to delete the document."""


Change = Update | Delete


class ProjectionHandler(NamedTuple):
    """What one type of event changes. With `many`, it may return (key, change) pairs."""

    function: Callable[..., Any]
    key: Callable[[Any], str] | None
    extras: tuple[Any, ...]
    many: bool

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)


class Projection(Generic[View]):
    """A read collection, kept equal to the fold of its categories' events.

    `of` lists the aggregates whose streams feed it; `view` is what a reader gets. The name is a
    collection and a durable queue: renaming it builds a new one. A raised `version` builds a new
    one too, from the log, while readers go on reading the old one until it is there: raise it with
    whatever changes what the handlers make of events that have happened. `partitions` is how many
    workers can share its load (each stream stays with one of them). `indexes` are made with the
    collection.
    """

    def __init__(
        self,
        name: str,
        *,
        of: Sequence[Any],
        view: type[View],
        version: int = 1,
        partitions: int = 1,
        indexes: Sequence[Index] = (),
    ) -> None:
        if not name.isidentifier():
            raise ConfigurationError(
                f"Projection({name!r}): the name becomes a collection's and a queue's; "
                f"use letters, digits, underscores"
            )
        if re.search(r"__v\d+(r\d+)?$", name):
            raise ConfigurationError(
                f"Projection({name!r}): names like that are its collections'; give the number as "
                f"version="
            )
        if not of or not all(getattr(kind, "category", "") for kind in of):
            raise ConfigurationError(f"Projection {name!r}: `of` lists aggregates, one at least")
        if not isinstance(version, int) or version < 1:
            raise ConfigurationError(f"Projection {name!r}: versions are 1, 2, 3 ...")
        if not 1 <= partitions <= SLOTS:
            raise ConfigurationError(f"Projection {name!r}: partitions are 1 to {SLOTS}")
        self.name = name
        self.view = view
        self.of = tuple(of)
        self.categories: tuple[str, ...] = tuple(kind.category for kind in of)
        self.version = version
        self.partitions = partitions
        self.indexes = tuple(indexes)
        self.handlers: dict[type[Event], ProjectionHandler] = {}

    def on(
        self, *events: type[AnyEvent], key: Callable[[AnyEvent], str] | None = None
    ) -> Callable[[Function], Function]:
        """Registers what events of these types change.

        The function takes the event and, where it asks for them by type, the `Envelope` and (only
        when `async`) this projection's `Documents`, inside the batch's transaction. It returns a
        MongoDB update, `Delete()`, None, or a list of (key, change) pairs. The document is the one
        with the aggregate's id, or the one that `key` names. It must be pure, for it may run
        several times for one event.
        """

        def register(function: Function) -> Function:
            handler = self._handler(events, function, key)
            for event in events:
                if event in self.handlers:
                    raise ConfigurationError(
                        f"{name_of(function)}: {event.__name__} is handled by "
                        f"{name_of(self.handlers[event].function)} in projection {self.name!r} "
                        f"already; remove one"
                    )
                self.handlers[event] = handler
            return function

        return register

    def target(self) -> Target:
        """Where the first collection of its version is; where versions are kept follows from the
        declaration alone."""
        own_streams = len(self.categories) == 1 and not any(
            handler.key or handler.many or handler.is_async for handler in self.handlers.values()
        )
        collection = collection_of(self.name, self.version)
        return Target(self.name, collection, own_streams, self.indexes)

    def registry(self) -> dict[str, type[Event]]:
        """The events that it reads, by wire name, former names included; others only count as
        versions. Raises: ConfigurationError where two classes claim one name."""
        return registry_of(f"projection {self.name!r}", self.handlers)

    def writes_itself(self, envelope: Envelope) -> bool:
        """Whether the event's handler may write within the transaction, by its `Documents`."""
        handler = self.handlers.get(type(envelope.message))  # type: ignore[arg-type]
        return handler is not None and handler.is_async

    async def changes(self, envelope: Envelope, unit: ReadUnit) -> list[Write]:
        """What one event changes. Raises: ProjectionError, and whatever the handler raises."""
        handler = self.handlers.get(type(envelope.message))  # type: ignore[arg-type]
        if handler is None:
            return []
        extras = handler.extras and [
            envelope
            if extra is Envelope
            else Documents(unit.documents, self.view, writing=unit.documents)
            for extra in handler.extras
        ]
        changed = handler.function(envelope.message, *extras)
        if type(changed) is not dict and isinstance(changed, Awaitable):
            changed = await changed
        return _writes(handler, envelope, changed)

    def _handler(
        self,
        events: Sequence[type[Event]],
        function: Callable[..., Any],
        key: Callable[[Any], str] | None,
    ) -> ProjectionHandler:
        first, *extras, returns = parameter_types(function)
        if returns is None:
            raise ConfigurationError(
                f"{name_of(function)}: its result has no type, and where versions are kept follows "
                f"from it; annotate it, as in `-> Update`"
            )
        taken = tuple(kind for kind in members(first) if isinstance(kind, type))
        for event in events:
            if not issubclass(event, taken):
                raise ConfigurationError(
                    f"{name_of(function)}: registered for {event.__name__}, but its first "
                    f"parameter is of type {first!r}; let it take {event.__name__}"
                )
        is_async = inspect.iscoroutinefunction(function)
        for extra in extras:
            if extra is not Envelope and not (is_async and get_origin(extra) is Documents):
                raise ConfigurationError(
                    f"{name_of(function)}: a projection's handler takes the event, the Envelope "
                    f"and, when async, Documents[{self.view.__name__}]; not {extra!r}"
                )
        single = all(kind in (type(None), Delete) or _is_mapping(kind) for kind in members(returns))
        return ProjectionHandler(function, key, tuple(extras), many=not single)


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping)


def _writes(handler: ProjectionHandler, envelope: Envelope, changed: Any) -> list[Write]:
    if changed is None:
        return []
    # Asking whether something is a Mapping takes long: nearly everything is a dict.
    if type(changed) is dict or isinstance(changed, Mapping | Delete):
        key = handler.key(envelope.message) if handler.key else key_of(envelope.stream)
        return [_write(handler, key, changed)]
    if isinstance(changed, list | tuple) and handler.many:
        return [_write(handler, key, change) for key, change in changed]
    raise ProjectionError(
        f"{name_of(handler.function)} returned {type(changed).__name__}; it may return an update, "
        f"Delete(), None, or (where its return type says so) a list of (key, change) pairs"
    )


def _write(handler: ProjectionHandler, key: Any, change: Any) -> Write:
    if not isinstance(key, str) or not key:
        raise ProjectionError(f"{name_of(handler.function)}: {key!r} is no key of a document")
    return Write(key, None if isinstance(change, Delete) else change)

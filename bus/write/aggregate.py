"""Aggregates: consistency boundaries that decide, record events and are rebuilt from them.

Pure: no I/O. The terms are Evans' (Domain-Driven Design, 2003) and Young's (event sourcing).
"""

import copy
import dis
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from bus.codec import record_and_read
from bus.common.calls import dispatched_in, functions_in
from bus.common.figures import whole
from bus.common.fingerprint import reason_of
from bus.common.signatures import members
from bus.data import payload
from bus.data.classes import unknown_options
from bus.data.ids import is_category
from bus.data.limits import check_aggregate_id, plain_text
from bus.data.payload import Document
from bus.data.round_trip import attributes_of, difference_of_state
from bus.declare.registry import generic_of, registry_of
from bus.errors import ConfigurationError, InvalidMessage, NewerMessage
from bus.messages import Event, check_kind, is_event
from bus.stores.event_log import Recorded, Snapshot
from bus.write.declared import (
    Storing,
    check_applied,
    check_made_by_id,
    check_names,
    check_storing,
    not_begun,
    overwritten,
    records_itself,
    storing_of,
)
from bus.write.state import Maker, Shape, fill_in, form_of, makers_of, shape_of

_OWN_FIELDS = frozenset({"id", "version", "recorded", "recorded_data"})


class Aggregate:
    """The base class of a service's aggregates; annotated class attributes are the state.

        class Account(Aggregate):            # category "account"; streams "account-<id>"
            owner: str = ""

            def apply(self, event: Event) -> None:
                match event:
                    case AccountOpened():
                        self.owner = event.owner

            def rename(self, owner: str) -> None:
                if owner != self.owner:
                    self.record(AccountRenamed(owner=owner))

    `apply` must name every event that the aggregate records, because these are read back from its
    stream; list those that it does not name: `class Account(Aggregate, events=[...])`.
    With `snapshot_every=N` the state is stored every N events, so that loading stays fast.

    With `stored="state"` it is stored with each commit, and loading reads that alone:

        class Job(Aggregate, stored="state", indexes=["status"], schema=2): ...

    `indexes=` names fields by which aggregates can be found (`await jobs.find(status="open")`), and
    `schema=` is the version of the state, which `upcast` brings to the current one. A subclass says
    anew how it is stored.
    """

    category: ClassVar[str] = ""
    snapshot_every: ClassVar[int] = 0
    storing: ClassVar[Storing] = Storing()
    _listed: ClassVar[tuple[type[Event], ...]] = ()
    _events: ClassVar[dict[str, type[Event]] | None] = None
    _defaults: ClassVar[Mapping[str, Maker]] = {}
    _shape: ClassVar[Shape | None] = None

    def __init_subclass__(
        cls,
        category: str = "",
        events: typing.Sequence[type[Event]] = (),
        snapshot_every: int = 0,
        stored: Literal["events", "state"] = "events",
        indexes: typing.Sequence[str] = (),
        schema: int = 1,
        **kwargs: Any,
    ) -> None:
        try:
            super().__init_subclass__(**kwargs)
        except TypeError as error:
            if not kwargs:
                raise
            known = "category=, events=, snapshot_every=, stored=, indexes=, schema="
            raise unknown_options(cls, kwargs, known) from error
        check_names(cls)
        cls.category = category or _snake_case(cls.__name__)
        if not is_category(cls.category):
            raise ConfigurationError(
                f"{cls.__qualname__}: {cls.category!r} is not a valid category; use lower-case "
                f"letters, digits and underscores, 50 at most"
            )
        if not isinstance(events, Iterable) or not all(map(is_event, listed := tuple(events))):
            raise ConfigurationError(
                f"{cls.__qualname__}: events={events!r:.100}: write a list of classes of events, "
                f"each a subclass of Event, as in events=[AccountOpened]"
            )
        cls.snapshot_every = whole(snapshot_every, f"{cls.__qualname__}: snapshot_every", least=0)
        cls.storing = storing_of(cls, stored, indexes, schema, cls.snapshot_every)
        cls._listed = (*cls._listed, *listed)
        cls._events = None
        cls._shape = None
        cls._defaults = makers_of(cls, Aggregate)

    def __init__(self, id: str) -> None:
        check_aggregate_id(id, type(self).__name__)
        self.id = plain_text(id)
        self.version = 0
        self.recorded: list[Event] = []
        self.recorded_data: list[Recorded] = []
        for name, make in self._defaults.items():
            setattr(self, name, make())

    def apply(self, event: Event) -> None:
        """Changes the state by one event. Override it; it must not decide anything, nor fail."""

    def record(self, event: Event) -> None:
        """Applies an event and keeps it for the unit of work to store.

        The event is turned into data at once: what is applied is what will be read back, and later
        changes to the object do not change what is stored.

        Raises: ConfigurationError for an event that `apply` does not name, InvalidMessage for one
        that could not be read back unchanged.
        """
        try:
            known = type(self).events().get(type(event).wire_name) is type(event)
        except AttributeError:
            known = False
        if not known:
            check_kind(type(event), Event, f"{type(self).__name__}.record")
            raise ConfigurationError(not_read_back(type(self), type(event)))
        data, read = record_and_read(event)
        try:
            version, recorded, stored = self.version, self.recorded, self.recorded_data
        except AttributeError:
            raise not_begun(type(self)) from None
        count = len(stored)
        self.apply(read)
        if len(stored) != count:
            raise records_itself(type(self))
        if self.version != version:
            raise overwritten(type(self), "version")
        if self.recorded is not recorded or self.recorded_data is not stored:
            raise overwritten(type(self), "recorded")
        self.version = version + 1
        recorded.append(event)
        stored.append(data)

    def check_own(self, id: str) -> None:
        """Raises: ConfigurationError if the aggregate has changed its `id`, under which its
        repository holds it, or has set an attribute that belongs to the class."""
        if self.id != id:
            raise overwritten(type(self), "id")
        if not self.__dict__.keys().isdisjoint(_OF_THE_CLASS):
            raise overwritten(type(self), min(_OF_THE_CLASS & self.__dict__.keys()))

    @property
    def stream(self) -> str:
        """The id of its stream: category and id, as in `account-a1`."""
        return stream_of(type(self), self.id)

    @classmethod
    def events(cls) -> dict[str, type[Event]]:
        """Returns the events that are read from the aggregate's stream, by wire name, former names
        included. Raises: ConfigurationError if two classes claim the same name."""
        if cls._events is None:
            applied = [vars(base).get("apply") for base in cls.__mro__ if base is not Aggregate]
            check_made_by_id(cls)
            check_applied(cls, applied)
            named = [event for apply in applied for event in _events_in(apply, cls)]
            found = [*cls._listed, *named]
            cls._events = registry_of(cls.__qualname__, found)
        return cls._events

    # Snapshots and states

    @classmethod
    def upcast(cls, state: Document, schema: int) -> Document:
        """Returns `state`, a copy, of an older `schema` in the current shape; override it for that.

        A stored state of another schema than `schema=` is read with its help, and without it not
        at all: then the aggregate is rebuilt from its events.
        """
        return state

    def to_snapshot(self) -> Snapshot:
        """Returns the state as a snapshot, or as it is stored with `stored="state"`.

        Raises: ConfigurationError for state that is not annotated, InvalidMessage for state that
        would be read back differently.
        """
        shape = self._state()
        if self.storing.by_state:
            fill_in(self, shape.names, shape.where)
        state = {n: value for n, value in attributes_of(self).items() if n not in _OWN_FIELDS}
        snapshot = Snapshot(self.stream, self.version, shape.name, shape.written(state))
        if self.storing.by_state:
            payload.check(snapshot.state, shape.where)
        try:
            read = self.from_snapshot(snapshot, self.id)
        except Exception as error:
            raise InvalidMessage(
                f"{shape.where}: could not be read back once it is written: {reason_of(error)}"
            ) from None
        if different := difference_of_state(self, read, _OWN_FIELDS, exact=shape.exact):
            raise InvalidMessage(f"{shape.where}: {different}")
        return snapshot

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, id: str) -> Self | None:
        """Returns the aggregate as it was; None if its class has since changed its shape, the
        events it reads or how it applies them, because these would lead to another state.

        With `stored="state"`, the schema and the fields of the state decide instead. Raises:
        InvalidMessage, NewerMessage or pydantic's ValidationError for one that does not fit.
        """
        shape = cls._state()
        if cls.storing.by_state:
            state = _in_current_shape(cls, snapshot, shape)
        elif snapshot.shape == shape.name:
            state = shape.read(snapshot.state)
        else:
            return None
        aggregate = cls(id)
        aggregate.version = snapshot.version
        for name, value in state.items():
            setattr(aggregate, name, value)
        return aggregate

    @classmethod
    def _state(cls) -> Shape:
        if cls._shape is None:
            if cls.storing.by_state:
                cls._shape = form_of(cls, cls.storing.schema)
            else:
                events = {name: event.wire_schema for name, event in cls.events().items()}
                cls._shape = shape_of(cls, Aggregate, events, "apply")
        return cls._shape


_OF_THE_CLASS = frozenset(name for name in vars(Aggregate) if not name.startswith("__"))


def state_shape(aggregate: type[Aggregate]) -> Shape:
    """Returns the shape of a class's state. Raises: ConfigurationError."""
    return aggregate._state()


def check_stored(aggregate: type[Aggregate]) -> None:
    """Raises: ConfigurationError if its state could not be stored as its class says."""
    if aggregate.storing.by_state:
        check_storing(aggregate, aggregate.storing, state_shape(aggregate).names)


def stream_of(aggregate: type[Aggregate], id: str) -> str:
    return f"{aggregate.category}-{plain_text(id)}"


def _in_current_shape(
    aggregate: type[Aggregate], snapshot: Snapshot, shape: Shape
) -> dict[str, Any]:
    """Returns the values of a stored state. Raises: InvalidMessage, NewerMessage, pydantic's
    ValidationError, and what `upcast` does."""
    name, own, schema = aggregate.__qualname__, aggregate.storing.schema, int(snapshot.shape)
    if schema == own:
        return shape.fitting(snapshot.state, exactly=True)
    if schema > own:
        raise NewerMessage(
            f"{name}: it is of schema {schema}, and the class here is of schema {own}; deploy the "
            f"release of the code that knows schema {schema}"
        )
    if inspect.getattr_static(aggregate, "upcast") is vars(Aggregate)["upcast"]:
        raise InvalidMessage(
            f"{name}: it is of schema {schema}, the class here is of schema {own}, and has no "
            f"upcast()"
        )
    made = aggregate.upcast(copy.deepcopy(snapshot.state), schema)
    if not isinstance(made, dict):
        raise InvalidMessage(
            f"{name}, schema {schema}: upcast() returned {type(made).__name__}; let it return the "
            f"state, as a dict"
        )
    return shape.fitting(made, exactly=False)


def not_read_back(aggregate: type[Aggregate], event: type[Event], by: str = "") -> str:
    """Returns the message that an aggregate records an event which it would not read back."""
    named = aggregate.events().values()
    bases = [kind.__name__ for kind in event.__mro__ if kind in named]
    base = f" (it names its base class {bases[0]}, which reads no subclass)" if bases else ""
    remedy = f"add a case for it, or list it: class {aggregate.__name__}(Aggregate, events=[...])"
    if generic_of(event) is not event and generic_of(event) in named:
        own = re.sub(r"\W+(\w?)", lambda found: found[1].upper(), event.__name__)
        remedy = f"record and name a class of its own: class {own}({event.__name__})"
    elif event.__qualname__.startswith(f"{aggregate.__qualname__}."):
        name = event.__qualname__.removeprefix(aggregate.__qualname__)
        remedy = f"add `case {aggregate.__name__}{name}()`, or move it out of the class and list it"
    return (
        f"{aggregate.__qualname__}{by} records {event.__name__}, which its apply() does not name, "
        f"so it could not be read back{base}; {remedy}"
    )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _events_in(applied: Any, of: type[Aggregate]) -> Iterator[type[Event]]:
    """Yields the event classes that an `apply` names, or that `singledispatchmethod` registered."""
    for kind in dispatched_in(applied):
        if issubclass(kind, Event) and kind is not Event:
            yield kind
    for function in functions_in(applied):
        yield from _events_named_in(function, of)


def _events_named_in(function: Callable[..., Any], of: type[Aggregate]) -> Iterator[type[Event]]:
    """Yields the event classes that a function's body mentions: as names, or as attributes of
    modules and classes, the aggregate's own among them."""
    found, loads = inspect.getclosurevars(function), list(dis.get_instructions(function))
    # `getclosurevars` also lists attributes that happen to be called like a global.
    named = {load.argval for load in loads if load.opname == "LOAD_GLOBAL"}
    attributes = {load.argval for load in loads if load.opname in ("LOAD_ATTR", "LOAD_METHOD")}
    known = [value for name, value in found.globals.items() if name in named]
    values = [of, *known, *found.nonlocals.values()]
    for value in values:
        for member in members(value):
            if is_event(member):
                yield member
        if isinstance(value, types.ModuleType):
            within = [getattr(value, name, None) for name in attributes]
        elif isinstance(value, type):
            within = [inspect.getattr_static(value, name, None) for name in attributes]
        else:
            continue
        values += [new for new in within if not any(new is other for other in values)]

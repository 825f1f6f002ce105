"""Aggregates: consistency boundaries that decide, record events, and are rebuilt from them.

Pure: no I/O. The terms are Evans' (Domain-Driven Design, 2003) and Young's (event sourcing).
"""

import copy
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, create_model

from bus.errors import ConfigurationError, InvalidMessage
from bus.messages import Event, registry_of
from bus.router import members
from bus.stores.base import Snapshot

_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,49}")
_OWN_FIELDS = frozenset({"id", "version", "recorded"})


class Aggregate:
    """The base of a service's aggregates. Annotated class attributes are its state.

        class Account(Aggregate):            # category "account"; streams "account-<id>"
            owner: str = ""

            def apply(self, event: Event) -> None:
                match event:
                    case AccountOpened():
                        self.owner = event.owner

    `apply` must name every event that the aggregate records, for these are read back from its
    stream; where it does not name them itself, list them: `class Account(Aggregate, events=[...])`.
    With `snapshot_every=N` its state is kept every N events, so that loading stays short.
    """

    category: ClassVar[str] = ""
    snapshot_every: ClassVar[int] = 0
    _listed: ClassVar[tuple[type[Event], ...]] = ()
    _events: ClassVar[dict[str, type[Event]] | None] = None
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(
        cls,
        category: str = "",
        events: typing.Sequence[type[Event]] = (),
        snapshot_every: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.category = category or _snake_case(cls.__name__)
        if not is_category(cls.category):
            raise ConfigurationError(
                f"{cls.__qualname__}: {cls.category!r} is no category; use lower-case letters, "
                f"digits and underscores, 50 at most"
            )
        cls.snapshot_every = snapshot_every
        cls._listed = tuple(events)
        cls._events = None
        cls._defaults = {
            name: value
            for base in reversed(cls.__mro__)
            if base not in (Aggregate, object)
            for name in _annotated(base)
            if isinstance(value := vars(base).get(name), list | dict | set)
        }

    def __init__(self, id: str) -> None:
        check_id(type(self), id)
        self.id = id
        self.version = 0
        self.recorded: list[Event] = []
        for name, value in self._defaults.items():
            setattr(self, name, copy.deepcopy(value))

    def apply(self, event: Event) -> None:
        """Changes the state by one event; decides nothing and never fails. Override it."""

    def record(self, event: Event) -> None:
        """Applies an event and keeps it for the unit of work to store."""
        if self.events().get(type(event).wire_name) is not type(event):
            raise ConfigurationError(
                f"{type(self).__qualname__} records {type(event).__name__}, which its apply() does "
                f"not name, so it could not be read back; add a case for it, or list it: "
                f"class {type(self).__name__}(Aggregate, events=[...])"
            )
        self.apply(event)
        self.version += 1
        self.recorded.append(event)

    @property
    def stream(self) -> str:
        return stream_of(type(self), self.id)

    @classmethod
    def events(cls) -> dict[str, type[Event]]:
        """The events that are read back from the aggregate's stream, by wire name, former names
        included. Raises: ConfigurationError where two classes claim one name."""
        if cls._events is None:
            applied = (vars(base).get("apply") for base in cls.__mro__ if base is not Aggregate)
            found = [*cls._listed, *(e for f in applied if f for e in _events_named_in(f))]
            cls._events = registry_of(cls.__qualname__, found)
        return cls._events

    # Snapshots

    def to_snapshot(self) -> Snapshot:
        """The state as a snapshot. Raises: ConfigurationError for state that is not annotated."""
        state = {name: value for name, value in vars(self).items() if name not in _OWN_FIELDS}
        adapter, shape = self._state()
        unknown = sorted(state.keys() - _annotations(type(self)).keys())
        if unknown:
            raise ConfigurationError(
                f"{type(self).__qualname__}: snapshots need a type for {', '.join(unknown)}; "
                f"annotate it in the class, as in `owner: str = ''`"
            )
        model = adapter.validate_python(state)
        return Snapshot(self.stream, self.version, shape, model.model_dump(mode="json"))

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, id: str) -> Self | None:
        """The aggregate as it was, or None where the class has another shape by now, or reads
        other events: it would be another state that they lead to."""
        adapter, shape = cls._state()
        if snapshot.shape != shape:
            return None
        aggregate = cls(id)
        aggregate.version = snapshot.version
        state = adapter.validate_python(snapshot.state)
        for name in state.model_fields_set:
            setattr(aggregate, name, getattr(state, name))
        return aggregate

    @classmethod
    def _state(cls) -> tuple[TypeAdapter[Any], str]:
        adapter, shape = cls.__dict__.get("_state_adapter", (None, ""))
        if adapter is None:
            fields: Any = {
                name: (kind, getattr(cls, name, None)) for name, kind in _annotations(cls).items()
            }
            adapter = TypeAdapter(create_model(f"{cls.__name__}State", **fields))
            state = sorted((name, str(kind)) for name, (kind, _) in fields.items())
            read = sorted((name, event.wire_schema) for name, event in cls.events().items())
            shape = str((state, read))
            cls._state_adapter = adapter, shape
        return adapter, shape

    _state_adapter: ClassVar[tuple[Any, str]]


def is_category(name: str) -> bool:
    """Whether a category may be named so."""
    return _CATEGORY.fullmatch(name) is not None


def stream_of(aggregate: type[Aggregate], id: str) -> str:
    return f"{aggregate.category}-{id}"


def check_id(aggregate: type[Aggregate], id: str) -> None:
    """Raises: InvalidMessage for an id that cannot name a stream."""
    if not (isinstance(id, str) and 0 < len(id) <= 200 and id.isprintable()):
        raise InvalidMessage(
            f"{str(id)[:200]!r} is no id of {aggregate.__name__}: 1 to 200 printable characters"
        )


def _annotated(cls: type) -> list[str]:
    """The names that a class annotates; their types need not be defined yet."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return list(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return list(inspect.get_annotations(cls))


def _annotations(cls: type[Aggregate]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise ConfigurationError(
            f"{cls.__qualname__}: {error}; its snapshots need the types of its state, so import "
            f"or define them"
        ) from error
    return {
        name: kind
        for name, kind in hints.items()
        if typing.get_origin(kind) is not ClassVar and not name.startswith("_")
    }


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _events_named_in(function: Callable[..., Any]) -> Iterator[type[Event]]:
    """The event classes that a function's body mentions, as names or as attributes of a module."""
    found = inspect.getclosurevars(function)
    values = [*found.globals.values(), *found.nonlocals.values()]
    for module in [value for value in values if isinstance(value, types.ModuleType)]:
        values += [getattr(module, name, None) for name in found.unbound]
    for value in values:
        for member in members(value):
            if isinstance(member, type) and issubclass(member, Event) and member is not Event:
                yield member

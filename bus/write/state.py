"""An aggregate's state: what its class declares, fresh for each aggregate, and as a snapshot.

Pure. Knows classes and their annotations, not what an aggregate does with them.
"""

import copy
import dataclasses
import hashlib
import inspect
import json
import re
import sys
import types
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Final, NamedTuple

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from bus.common.fingerprint import reason_of
from bus.data import payload
from bus.data.fields import mixes_numbers
from bus.data.round_trip import attributes_of
from bus.errors import ConfigurationError, InvalidMessage
from bus.write.steps import steps_of

Maker = Callable[[], Any]
ABSENT = object()

MUTABLE = (list, dict, set, deque, bytearray, BaseModel)
SHARED = (str, bytes, int, float, complex, bool, type(None), type, types.FunctionType)
_CLASS_VAR = re.compile(r"(\w+\.)*ClassVar\b")


def makers_of(cls: type, base: type) -> dict[str, Maker]:
    """Returns what makes each default that aggregates must not share, by name.

    Raises: ConfigurationError for one that cannot be copied.
    """
    found = {name: inspect.getattr_static(cls, name, None) for name in _state_names(cls, base)}
    for name, value in found.items():
        if _is_field_without_default(value):
            raise ConfigurationError(
                f"{cls.__qualname__}: {name!r} is a field without a default, and nobody gives an "
                f"aggregate its state; give it one, or only annotate it: `{name}: ...`"
            )
    makers = {name: _maker(value) for name, value in found.items()}
    for name, make in makers.items():
        try:
            if make is not None and not _has_factory(found[name]):
                make()
        except Exception as error:
            raise ConfigurationError(
                f"{cls.__qualname__}: its default of {name!r} cannot be copied for each aggregate "
                f"({type(error).__name__}); make it anew, as in `{name}: ... = "
                f"dataclasses.field(default_factory=...)`"
            ) from error
    return {name: make for name, make in makers.items() if make is not None}


def _state_names(cls: type, base: type) -> Iterator[str]:
    """Yields the attributes that are state: those annotated, and others with mutable values."""
    for kind in reversed(cls.__mro__):
        if kind in (base, object):
            continue
        annotations = annotated(kind)
        yield from (name for name, hint in annotations.items() if not is_class_var(hint))
        for name, value in list(vars(kind).items()):
            if name.isupper() or name in annotations or name in vars(base) or name.startswith("__"):
                continue
            if name.startswith("_"):  # a filled one is a table of the class, not state
                if isinstance(value, MUTABLE) and not value:
                    yield name
            elif isinstance(value, MUTABLE) or _is_data(value):
                yield name


def _maker(value: Any) -> Maker | None:
    """Returns what makes a default; None if aggregates may share it, or if there is none."""
    if isinstance(value, dataclasses.Field):
        if value.default_factory is not dataclasses.MISSING:
            return value.default_factory
        value = value.default
        if _may_be_shared(value):
            return lambda: value
    elif isinstance(value, FieldInfo):
        return lambda: value.get_default(call_default_factory=True)
    if value is dataclasses.MISSING or _may_be_shared(value) or hasattr(value, "__get__"):
        return None
    if type(value) in (list, dict, set) and not value:
        return type(value)
    return lambda: copy.deepcopy(value)


def _may_be_shared(value: Any) -> bool:
    """Returns whether nothing in a value can change: then a copy of it is the same object."""
    try:
        return isinstance(value, SHARED) or copy.deepcopy(value) is value
    except Exception:  # `makers_of` reports it
        return False


def _is_field_without_default(value: Any) -> bool:
    if isinstance(value, dataclasses.Field):
        missing = dataclasses.MISSING
        return value.default is missing and value.default_factory is missing
    return isinstance(value, FieldInfo) and value.is_required()


def _has_factory(value: Any) -> bool:
    return isinstance(value, dataclasses.Field | FieldInfo)


def _is_data(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def is_class_var(kind: Any) -> bool:
    named = kind if isinstance(kind, str) else getattr(kind, "__forward_arg__", "")
    return kind is ClassVar or typing.get_origin(kind) is ClassVar or bool(_CLASS_VAR.match(named))


def annotated(cls: type) -> dict[str, Any]:
    """Returns a class's own annotations; their types need not be defined yet."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return dict(inspect.get_annotations(cls))


# As a snapshot


class Shape(NamedTuple):
    """How a class's state is written and read. `name` identifies the shape; `exact` says that a
    number in it may be read as an integer or as a float."""

    where: str
    adapter: TypeAdapter[Any]
    names: frozenset[str]
    name: str
    exact: bool

    def written(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the state as JSON types.

        Raises: ConfigurationError for state that is not annotated, InvalidMessage for state that
        JSON cannot hold.
        """
        unknown = sorted(state.keys() - self.names)
        if unknown:
            raise ConfigurationError(
                f"{self.where}: snapshots need a type for {', '.join(unknown)}; annotate it in the "
                f"class, as in `{unknown[0]}: int = 0`, or `{unknown[0]}: ClassVar[int] = 0` where "
                f"it is no state"
            )
        try:
            self._check_ends(state)
            return self._dumped(state)
        except InvalidMessage:
            raise
        except Exception as error:
            raise InvalidMessage(
                f"{self.where}: {self._unwritable(state)} cannot be written as JSON "
                f"({reason_of(error)}); hold data in it, and nothing that does something"
            ) from None

    def form_of(self, name: str, value: Any) -> Any:
        """Returns the form in which a state holds a value of one field. Raises: pydantic's
        ValidationError for a value of another type."""
        (form,) = self._dumped(self.adapter.validate_python({name: value})).values()
        return form

    def holds(self, value: object, name: str, form: Any) -> bool:
        """Returns whether a field of an object has a value of this form."""
        if not hasattr(value, name):
            return False
        (found,) = self._dumped({name: getattr(value, name)}).values()
        return bool(found == form) and (type(found) is bool) == (type(form) is bool)

    def fitting(self, data: Mapping[str, Any], *, exactly: bool) -> dict[str, Any]:
        """Returns the state in data that has every field of the class; with `exactly`, nothing
        else, and nothing that would be written otherwise.

        Raises: InvalidMessage, pydantic's ValidationError.
        """
        state = self.read(data)
        if lacks := self.names - state.keys():
            raise InvalidMessage(f"{self.where}: it has no {', '.join(sorted(lacks))}")
        if exactly and (written := self._dumped(state)) != data:
            names = [
                name for name in data.keys() | written.keys() if not _same(data, written, name)
            ]
            if names:
                raise InvalidMessage(
                    f"{self.where}: {', '.join(sorted(names))} would be written otherwise now"
                )
        return state

    def _check_ends(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if _holds_iterator(value, set()):
                raise InvalidMessage(
                    f"{self.where}: {name} holds an iterator, which is used up when it is written, "
                    f"or has no end; hold a list, or a number"
                )

    def _dumped(self, state: Mapping[str, Any]) -> dict[str, Any]:
        data: dict[str, Any] = self.adapter.dump_python(
            dict(state), mode="json", by_alias=True, round_trip=True, warnings=False
        )
        return data

    def _unwritable(self, state: Mapping[str, Any]) -> str:
        for name, value in state.items():
            try:
                self._dumped({name: value})
            except Exception:
                return name
        return "its state"

    def read(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the state that was written. Raises: pydantic's ValidationError."""
        kept = payload.plain_integers(dict(data))
        state: dict[str, Any] = self.adapter.validate_python(kept, strict=False)
        return state


def _same(data: Mapping[str, Any], written: Mapping[str, Any], name: str) -> bool:
    one, other = data.get(name, ABSENT), written.get(name, ABSENT)
    return bool(one == other or payload.in_order(one) == payload.in_order(other))


def _holds_iterator(value: Any, seen: set[int]) -> bool:
    if isinstance(value, str | bytes | int | float | None) or id(value) in seen:
        return False
    if isinstance(value, Iterator):
        return True
    seen.add(id(value))
    parts = list(attributes_of(value).values())
    if isinstance(value, Mapping):
        parts += value.values()
    elif isinstance(value, list | tuple | deque):
        parts += value
    return any(_holds_iterator(part, seen) for part in parts)


def shape_of(cls: type, base: type, events: Mapping[str, int], fold: str) -> Shape:
    """Returns the shape of a class's state, whose name changes as soon as the class reads other
    events or other schemas, or its method `fold` does something else with them.

    Raises: ConfigurationError if a type is not defined.
    """
    kinds = _kinds(cls)
    adapter = _adapter(cls, kinds)
    state = {name: (kind, _default(cls, name)) for name, kind in kinds.items()}
    same = (_described(adapter, kinds), sorted(events.items()), steps_of(cls, base, fold, state))
    name = hashlib.blake2s(repr(same).encode(errors="replace"), digest_size=16).hexdigest()
    exact = mixes_numbers(adapter.core_schema)
    return Shape(
        where=cls.__qualname__, adapter=adapter, names=frozenset(kinds), name=name, exact=exact
    )


def form_of(cls: type, schema: int) -> Shape:
    """Returns the shape of a class's state that is named by its schema alone.

    Raises: ConfigurationError if a type is not defined.
    """
    kinds = {
        name: kind
        for name, kind in _kinds(cls).items()
        if not isinstance(inspect.getattr_static(cls, name, None), property)
    }
    adapter = _adapter(cls, kinds)
    return Shape(
        where=cls.__qualname__,
        adapter=adapter,
        names=frozenset(kinds),
        name=str(schema),
        exact=mixes_numbers(adapter.core_schema),
    )


def fill_in(value: object, names: AbstractSet[str], where: str) -> None:
    """Gives an object of its own what it only has from its class, so that it is stored as well.

    Raises: InvalidMessage for a name without any value.
    """
    for name in names - attributes_of(value).keys():
        if not hasattr(value, name):
            raise InvalidMessage(
                f"{where}: {name} has no value, and a state that is stored has all of them; give "
                f"it a default, as in `{name}: str | None = None`"
            )
        setattr(value, name, getattr(value, name))


def _kinds(cls: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{cls.__qualname__}: {error}; its snapshots need the types of its state, so import "
            f"or define them"
        ) from error
    return {name: _held(kind) for name, kind in hints.items() if not is_class_var(kind)}


def _held(kind: Any) -> Any:
    """Returns the type without `Final`, which matters to type checkers only."""
    if kind is Final:
        return Any
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Final else kind


def _adapter(cls: type, kinds: Mapping[str, Any]) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(TypedDict("State", kinds, total=False))  # type: ignore[operator]
    except Exception:
        for name in kinds if len(kinds) > 1 else ():
            _adapter(cls, {name: kinds[name]})
        raise ConfigurationError(
            f"{cls.__qualname__}: snapshots cannot hold {', '.join(kinds)}, of a type that "
            f"pydantic does not know; let it be a model, a dataclass or plain data"
        ) from None


def _default(cls: type, name: str) -> Any:
    """Returns a default, or its factory."""
    value = inspect.getattr_static(cls, name, None)
    if not _has_factory(value):
        return value
    factory = value.default_factory
    return value.default if factory in (None, dataclasses.MISSING) else factory


def _described(adapter: TypeAdapter[Any], kinds: Mapping[str, Any]) -> str:
    """Describes the types of the state and of what is in it."""
    try:
        return json.dumps(adapter.json_schema(mode="serialization"), sort_keys=True)
    except Exception:  # JSON Schema cannot describe these types
        return str(sorted((name, str(kind)) for name, kind in kinds.items()))

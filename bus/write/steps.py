"""What a class does to its state, as data that differs once its code, constants or tables do.

Pure. Follows the functions that change the state to everything of the application that they use.
It does not see what libraries do, nor what is read or made while the program runs.
"""

import dataclasses
import sys
import typing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pydantic import BaseModel

from bus.common.calls import codes_in, functions_in, names_within
from bus.data.round_trip import attributes_of

CONSTANTS = (
    bool, int, float, complex, str, bytes, Decimal, date, datetime, time, timedelta, type(None)
)  # fmt: skip
TABLES = (list, tuple, AbstractSet, Mapping)
BY_NAME = {
    "getattr", "vars", "__dict__", "attrgetter", "methodcaller", "__getattribute__", "eval"
}  # fmt: skip
"""What finds attributes by names that are made at run time: then all attributes count."""

NOT_DONE = ("__annotat", "__class_getitem__", "__init_subclass__")
LIBRARIES = {"abc", "builtins", "collections", "enum", "pydantic", "typing", "typing_extensions"}
"""Packages of base classes. All other packages that a class derives from are the application's."""


def steps_of(
    cls: type, base: type, method: str, state: Mapping[str, tuple[Any, Any]]
) -> list[object]:
    """Returns what `method` of a class, its special methods and its `state` (types and defaults by
    name) do; the classes below `base` are the application's.

    It leaves out where code stands, so that code may move.
    """
    steps = _Steps([kind for kind in cls.__mro__ if kind not in base.__mro__])
    return steps.of(method, state)


class _Steps:
    """Goes breadth first, so that deep code does not exhaust the stack."""

    def __init__(self, owners: list[type]) -> None:
        self._owners = owners
        self._own = {_root_of(owner) for owner in owners} - LIBRARIES
        self._found: list[object] = []
        self._pending: deque[FunctionType | type] = deque()
        self._seen: dict[int, object] = {id(owner): owner for owner in owners}

    def of(self, method: str, state: Mapping[str, tuple[Any, Any]]) -> list[object]:
        for owner in self._owners:
            for name, value in vars(owner).items():
                if name == method or (_is_special(name) and not name.startswith(NOT_DONE)):
                    self._add_functions(value)
        for name, (kind, default) in sorted(state.items(), key=lambda item: item[0]):
            self._add_types(kind)
            self._add(name, default)
            self._found.append((name, text_of(default)))
        while self._pending:
            match self._pending.popleft():
                case FunctionType() as function:
                    self._go_through(function)
                case kind:
                    self._go_through_class(kind)
        return self._found

    def _go_through(self, function: FunctionType) -> None:
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._add("", value)
        codes = list(codes_in(function.__code__))
        for code in codes:
            constants = [text_of(const) for const in code.co_consts if const != function.__doc__]
            self._found.append((code.co_code, code.co_names, code.co_exceptiontable, constants))
        names = dict.fromkeys(
            [*(name for code in codes for name in code.co_names), *function.__code__.co_freevars]
        )
        for name, value in self._meant_by(names, function):
            self._add(name, value)
        if names.keys() & BY_NAME:
            for owner in self._owners:
                for value in vars(owner).values():
                    self._add_functions(value)

    def _meant_by(
        self, names: Mapping[str, Any], function: FunctionType
    ) -> Iterator[tuple[str, Any]]:
        """Yields what names may mean: in the class, the function's module, and modules it names."""
        for name in names:
            for owner in self._owners:
                if name in vars(owner):
                    yield name, vars(owner)[name]
        known = names_within(function)
        modules = [known.get(name, sys.modules.get(name)) for name in names]
        for module in modules:
            if isinstance(module, ModuleType) and _root(module.__name__) in self._own:
                found = {name: vars(module)[name] for name in names if name in vars(module)}
                modules += [value for value in found.values() if value not in modules]
                yield from found.items()
        yield from ((name, known[name]) for name in names if name in known)

    def _go_through_class(self, kind: type) -> None:
        if issubclass(kind, Enum):
            self._found.append([(member.name, text_of(member.value)) for member in kind])
        outside = [base for base in kind.__mro__ if _root_of(base) not in self._own]
        for name, value in sorted(vars(kind).items()):
            if name.startswith(NOT_DONE):
                continue
            self._add_functions(value)
            if not (_is_special(name) or any(name in vars(base) for base in outside)):
                self._add(name, value)
        for base in kind.__bases__:
            self._add_types(base)
        with suppress(Exception):  # types that are not defined
            for hint in typing.get_type_hints(kind, include_extras=True).values():
                self._add_types(hint)

    def _add(self, name: str, value: Any) -> None:
        """Adds what a name stands for: a constant, or the functions and classes in it.

        Other contents of a table do not count, because they may change while the program runs.
        """
        if _is_constant(value):
            self._found.append((name, text_of(value)))
        elif isinstance(value, tuple):
            for item in value:
                self._add(name, item)
        elif isinstance(value, TABLES):
            self._add_table(value)
        else:
            self._add_functions(value)
            self._add_types(value if isinstance(value, type) else type(value))

    def _add_table(self, table: Any) -> None:
        if id(table) in self._seen:
            return
        self._seen[id(table)] = table
        parts = sorted(table, key=_name_of) if isinstance(table, AbstractSet) else list(table)
        parts += table.values() if isinstance(table, Mapping) else ()
        for part in parts:
            if isinstance(part, TABLES):
                self._add_table(part)
            else:
                self._add_functions(part)
                self._add_types(part)

    def _add_functions(self, value: Any) -> None:
        for function in functions_in(value):
            if _root_of(function) in self._own:
                self._once(function)

    def _add_types(self, kind: Any) -> None:
        """Adds the classes in a type, and what `Annotated` adds to it."""
        if not isinstance(kind, type):
            self._add_functions(getattr(kind, "func", None))
        elif _root_of(kind) in self._own:
            self._once(kind)
        for argument in typing.get_args(kind):
            self._add_types(argument)

    def _once(self, value: FunctionType | type) -> None:
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            self._pending.append(value)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_constant, value))
    return type(value) in CONSTANTS or isinstance(value, Enum)


def text_of(value: Any) -> str:
    """Returns a value as text that is the same in every process."""
    if isinstance(value, CodeType):
        return value.co_name
    if isinstance(value, Enum):
        return value.name
    if type(value) in CONSTANTS:
        return repr(value)
    if isinstance(value, Mapping):
        return repr([(text_of(key), text_of(item)) for key, item in value.items()])
    if isinstance(value, AbstractSet):
        return repr(sorted(map(text_of, value)))
    if isinstance(value, Sequence):
        return repr([text_of(item) for item in value])
    is_data = isinstance(value, BaseModel) or dataclasses.is_dataclass(value)
    held = attributes_of(value) if is_data and not isinstance(value, type) else {}
    return repr((_name_of(type(value)), [(name, text_of(item)) for name, item in held.items()]))


def _name_of(value: Any) -> str:
    return str(getattr(value, "__qualname__", ""))


def _root_of(value: Any) -> str:
    return _root(getattr(value, "__module__", None) or "")


def _root(module: str) -> str:
    return module.partition(".")[0]

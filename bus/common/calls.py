"""Calls: which functions stand in an attribute, and which objects one makes for a method. No I/O.

It finds the class in `outbox.send(CloseJob(...))` where that is certain, and nothing elsewhere.
"""

import dis
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial, partialmethod, singledispatchmethod
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from bus.common.signatures import routine_of

_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_NAMES = ("LOAD_GLOBAL", "LOAD_DEREF")
_NOTHING = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")

_WITHIN = ("__func__", "__wrapped__", "func", "fget", "fset", "fdel")
_WRAPPERS = (
    classmethod, staticmethod, MethodType, property, cached_property, partial, partialmethod
)  # fmt: skip


def made_for(function: Callable[..., Any], method: str, variable: str = "") -> Iterator[type[Any]]:
    """Yields the classes of the objects that are made right within `variable.method(...)`.

    Without a `variable`, the method may be any variable's.
    """
    plain = inspect.unwrap(routine_of(function))
    plain = getattr(plain, "__func__", plain)
    if not inspect.isfunction(plain):  # not written in Python
        return
    codes = [code for code in codes_in(plain.__code__) if method in code.co_names]
    known = names_within(plain) if codes else {}
    for code in codes:
        for name, *attributes in _first_loads(code, method, variable):
            value = known.get(name)
            for attribute in attributes:
                named = isinstance(value, type | ModuleType)  # others may run code of their own
                value = getattr(value, attribute, None) if named else None
            if isinstance(value, type) and not getattr(value, "__parameters__", ()):
                yield value  # not a generic class: that may be given its parameters first


def names_within(function: FunctionType) -> dict[str, Any]:
    """Returns what a function's names stand for: those of its module and of functions around it."""
    found = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            found[name] = cell.cell_contents
    return found


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Yields the code, and that of the functions defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def functions_in(value: Any) -> Iterator[FunctionType]:
    """Yields the functions that may run when an attribute is used or called, each one once."""
    found: dict[int, FunctionType] = {}
    _find(value, found, set())
    yield from found.values()


def dispatched_in(value: Any) -> list[type]:
    """Returns the classes for which a `singledispatchmethod` or `singledispatch` has functions."""
    return list(_registry_of(value))


def _first_loads(code: CodeType, method: str, variable: str) -> Iterator[list[str]]:
    """Yields what is loaded right after each `variable.method`, as the parts of a dotted name."""
    loads = [load for load in dis.get_instructions(code) if load.opname not in _NOTHING]
    for at in range(len(loads) - 2):
        owner, called, name = loads[at : at + 3]
        if (
            _variable(owner)
            and variable in ("", _variable(owner))
            and called.opname in _ATTRIBUTES
            and called.argval == method
            and name.opname in _NAMES
        ):
            yield [name.argval, *_attributes(loads[at + 3 :])]


def _variable(load: dis.Instruction) -> str:
    """Returns the local variable that is loaded; some instructions load or store another before."""
    if "LOAD_FAST" not in load.opname and load.opname != "LOAD_DEREF":
        return ""
    name: str = load.argval[-1] if isinstance(load.argval, tuple) else load.argval
    return name


def _attributes(loads: list[dis.Instruction]) -> Iterator[str]:
    for load in loads:
        if load.opname not in _ATTRIBUTES:
            return
        yield load.argval


def _find(value: Any, found: dict[int, FunctionType], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if registry := _registry_of(value):
        for function in registry.values():
            _find(function, found, seen)
        return
    if isinstance(value, FunctionType):
        found[id(value)] = value
    if isinstance(value, _WRAPPERS) or "__wrapped__" in getattr(value, "__dict__", ()):
        for name in _WITHIN:
            _find(getattr(value, name, None), found, seen)


def _registry_of(value: Any) -> Mapping[type, Any]:
    if isinstance(value, singledispatchmethod):
        value = value.dispatcher
    registry = getattr(value, "__dict__", {}).get("registry")
    return registry if isinstance(value, FunctionType) and isinstance(registry, Mapping) else {}

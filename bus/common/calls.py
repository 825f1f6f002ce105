"""Calls: which objects a function makes for a method, read from its code. No I/O.

It finds the class in `outbox.send(CloseJob(...))` where that is certain, and nothing elsewhere.
"""

import dis
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bus.common.signatures import routine_of

_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_NAMES = ("LOAD_GLOBAL", "LOAD_DEREF")
_NOTHING = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")


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

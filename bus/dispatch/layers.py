"""Layers: whether what is given as middleware can go round a handler. No I/O."""

import dis
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

from bus.common.signatures import inspected, is_async, name_of, routine_of
from bus.dispatch.middleware import timeout
from bus.errors import ConfigurationError


def check_layers(middleware: Iterable[Any], where: str) -> None:
    """Raises: ConfigurationError for what is no async callable of two parameters, or gives nothing
    of what the following one gives it."""
    for one in middleware:
        if problem := _problem(one):
            named = f"{one.__module__}.{one.__qualname__}" if inspect.isclass(one) else name_of(one)
            raise ConfigurationError(f"{where}: middleware=[{named}]: {problem}")


def _problem(one: Any) -> str:
    if one is timeout:
        return "call it first, as in timeout(10)"
    if isinstance(one, type):
        return "it is a class; give an object of it, whose class has `async def __call__`"
    if not is_async(one):
        return (
            "it is not async; write `async def`, and `return await following(envelope)`, also for "
            "the function that a decorator returns"
        )
    taken = inspected(one)
    try:
        taken.bind(None, None)
    except TypeError:
        return f"it takes {taken}, and is called with two: the envelope and the following one"
    if _returns_nothing(routine_of(one)):
        return (
            "it returns nothing, so that who asks would get no result; write `return await "
            "following(envelope)`"
        )
    return ""


def _returns_nothing(routine: Any) -> bool:
    """Whether it returns, and never anything but None."""
    code = getattr(routine, "__code__", None)
    returned = list(_nothings(code)) if isinstance(code, CodeType) else []
    return bool(returned) and all(returned)


def _nothings(code: CodeType) -> Iterator[bool]:
    """Of each place where it returns, whether that is None."""
    loads_none = False
    for one in dis.get_instructions(code):
        if one.opname == "RETURN_CONST":
            yield one.argval is None
        elif one.opname == "RETURN_VALUE":
            yield loads_none and not one.is_jump_target
        loads_none = one.opname == "LOAD_CONST" and one.argval is None

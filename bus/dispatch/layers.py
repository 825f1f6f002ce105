"""Checks that what is given as middleware can run around a handler. No I/O."""

import dis
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

from bus.common.signatures import inspected, is_async, name_of, routine_of
from bus.dispatch.middleware import timeout
from bus.errors import ConfigurationError


def check_layers(middleware: Iterable[Any], where: str) -> None:
    """Raises: ConfigurationError for a layer that is not an async callable of two parameters, or
    that never returns the result of the next one."""
    for layer in middleware:
        if problem := _problem(layer):
            is_class = inspect.isclass(layer)
            named = f"{layer.__module__}.{layer.__qualname__}" if is_class else name_of(layer)
            raise ConfigurationError(f"{where}: middleware=[{named}]: {problem}")


def _problem(layer: Any) -> str:
    if layer is timeout:
        return "call it first, as in timeout(10)"
    if isinstance(layer, type):
        return "it is a class; give an object of it, whose class has `async def __call__`"
    if not is_async(layer):
        return (
            "it is not async; write `async def`, and `return await following(envelope)`, also for "
            "the function that a decorator returns"
        )
    taken = inspected(layer)
    try:
        taken.bind(None, None)
    except TypeError:
        return f"it takes {taken}, and is called with two: the envelope and the following one"
    if _returns_nothing(routine_of(layer)):
        return (
            "it returns nothing, so that who asks would get no result; write `return await "
            "following(envelope)`"
        )
    return ""


def _returns_nothing(routine: Any) -> bool:
    """Returns whether each `return` of a function, of which there is at least one, gives None."""
    code = getattr(routine, "__code__", None)
    returned = list(_returns_none(code)) if isinstance(code, CodeType) else []
    return bool(returned) and all(returned)


def _returns_none(code: CodeType) -> Iterator[bool]:
    """Yields for each return instruction whether it returns the constant None.

    Python 3.12 and 3.13 have RETURN_CONST; others load the constant first. A RETURN_VALUE that is
    a jump target may return something else.
    """
    loads_none = False
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_CONST":
            yield instruction.argval is None
        elif instruction.opname == "RETURN_VALUE":
            yield loads_none and not instruction.is_jump_target
        loads_none = instruction.opname == "LOAD_CONST" and instruction.argval is None

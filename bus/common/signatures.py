"""Signatures: what a function takes and returns, whatever kind of callable it is. No I/O.

It knows nothing of messages: whatever registers a function decides what its parameters may be.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

from bus.errors import ConfigurationError

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NO_DEFAULT: Any = inspect.Parameter.empty


class Dependency(NamedTuple):
    """A parameter after the first, which is filled by its type.

    `written` is the annotation as written; `kind` is without `Annotated`, type aliases and
    `| None`.
    """

    name: str
    kind: Any
    written: Any
    default: Any = NO_DEFAULT


class Signature(NamedTuple):
    """What a function takes and returns. `call` takes all arguments by position."""

    name: str
    first: Any
    dependencies: tuple[Dependency, ...]
    returns: Any
    call: Callable[..., Any]
    is_async: bool


def signature_of(function: Callable[..., Any]) -> Signature:
    """Reads a function, a method, a partial, or an object with `__call__`.

    Raises: ConfigurationError for a parameter that cannot be filled by its type, and for what could
    not be called or awaited.
    """
    where = name_of(function)
    called = _called(where, function)
    parameters = _parameters(where, called)
    if not parameters:
        raise ConfigurationError(f"{where}: its first parameter must be the message; add it")
    hints = _hints(where, called)
    asked = [_dependency(where, parameter, hints) for parameter in parameters]
    by_name = [found.name for found in parameters if found.kind is inspect.Parameter.KEYWORD_ONLY]
    _check_call(where, called, len(parameters) - len(by_name), by_name)
    return Signature(
        name=where,
        first=asked[0].written,
        dependencies=tuple(asked[1:]),
        returns=hints.get("return"),
        call=_by_position(called, by_name) if by_name else called,
        is_async=_is(inspect.iscoroutinefunction, called),
    )


def name_of(function: Any) -> str:
    """Returns a callable's full name: of a partial, its function's; of an object, its class's."""
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', '?')}.{named.__qualname__}"


def is_async(value: object) -> bool:
    """Returns whether calling it gives a coroutine, as far as its own code shows."""
    return callable(value) and any(map(inspect.iscoroutinefunction, (value, routine_of(value))))


def with_article(name: str) -> str:
    """Returns a name with its article: "an event", "a command"."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def shown(annotation: Any) -> str:
    """Returns a type as its user writes it, with the names of `bus` as they are imported."""
    return re.sub(r"\bbus\.(\w+\.)*", "", inspect.formatannotation(annotation))


def plain(annotation: Any) -> Any:
    """Returns a type without what is written around it: `Annotated`, or the name of an alias."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        elif hasattr(annotation, "__value__"):  # `type Name = ...`, and its backport
            annotation = annotation.__value__
        else:
            return annotation


def members(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the annotation itself."""
    annotation = plain(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(annotation) for kind in members(part))
    return (annotation,)


def _called(where: str, function: Any) -> Callable[..., Any]:
    if isinstance(function, staticmethod):
        function = function.__func__
    if isinstance(function, type):
        raise ConfigurationError(
            f"{where} is a class, and calling it only makes an object of it; register an object "
            f"whose class has `async def __call__`, or a function"
        )
    if isinstance(function, classmethod):
        raise ConfigurationError(
            f"{where} is a class method that has no class yet; register it below the class, as in "
            f"`router.command(Class.method)`, or write a function"
        )
    if not callable(function):
        raise ConfigurationError(f"{where}: {function!r} cannot be called; register a function")
    if _is(inspect.isasyncgenfunction, function) or _is(inspect.isgeneratorfunction, function):
        raise ConfigurationError(
            f"{where}: it yields, and what it yields would be read by nobody; let it return"
        )
    return typing.cast(Callable[..., Any], function)


def _is(test: Callable[[Any], bool], called: Any) -> bool:
    return test(called) or test(routine_of(called))


def routine_of(called: Any) -> Any:
    """Returns the function that a callable runs: a partial's, or an object's `__call__`."""
    while isinstance(called, partial):
        called = called.func
    is_routine = inspect.isroutine(called) or hasattr(called, "__wrapped__")
    return called if is_routine else called.__call__


def inspected(function: Callable[..., Any], **how: Any) -> inspect.Signature:
    """Calls `inspect.signature`, also if its annotations name types that do not exist yet."""
    if sys.version_info >= (3, 14):
        import annotationlib

        how["annotation_format"] = annotationlib.Format.FORWARDREF
    return inspect.signature(function, **how)


def _parameters(where: str, called: Callable[..., Any]) -> list[inspect.Parameter]:
    """Returns the parameters still to be filled, without those a partial has given by name."""
    try:
        found = inspected(called).parameters.values()
    except ValueError as error:
        raise ConfigurationError(
            f"{where}: its parameters cannot be read ({error}); write a function around it"
        ) from error
    given = called.keywords if isinstance(called, partial) else {}
    for parameter in found:
        if parameter.kind in _VARIABLE:
            raise ConfigurationError(
                f"{where}: nothing can be given to {parameter}; name what it takes. If a decorator "
                f"made this function, let the decorator use functools.wraps"
            )
    return [parameter for parameter in found if parameter.name not in given]


def _hints(where: str, called: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(routine_of(called), include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise ConfigurationError(
            f"{where}: {error}; the types of its parameters are read when it is registered: "
            f"import them before, outside of `if TYPE_CHECKING`, and define at the top of a module "
            f"what is annotated as text"
        ) from error


def _dependency(where: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> Dependency:
    name = parameter.name
    written = hints.get(name, parameter.annotation)
    if written is not inspect.Parameter.empty:
        return Dependency(name, _without_none(written), written, parameter.default)
    if name in ("self", "cls"):
        raise ConfigurationError(
            f"{where}: {name!r} is given by nobody, because it is registered within its class; "
            f"register the method of an object, as in `router.command(object.method)`"
        )
    raise ConfigurationError(f"{where}: parameter {name!r} has no type; annotate it")


def _without_none(annotation: Any) -> Any:
    kinds = [kind for kind in members(annotation) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 else plain(annotation)


def _check_call(where: str, called: Callable[..., Any], positions: int, names: list[str]) -> None:
    """Checks that a decorator's wrapper can be called with what it declares to take."""
    try:
        own = inspected(called, follow_wrapped=False)
    except ValueError:  # written in C, such as functools.cache
        return
    try:
        own.bind(*range(positions), **dict.fromkeys(names))
    except TypeError as error:
        raise ConfigurationError(
            f"{where}: its decorator says by functools.wraps that it takes what the function "
            f"within takes, but it does not ({error}); let the decorator take *args and **kwargs"
        ) from error


def _by_position(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Returns a function that takes all by position, and passes the last ones on by name."""

    def call(*values: Any) -> Any:
        first = len(values) - len(names)
        return function(*values[:first], **dict(zip(names, values[first:], strict=True)))

    return call


def not_called(function: Any) -> str:
    """Returns why it cannot be called with one argument, or "" if it can."""
    try:
        inspected(function).bind(object())
    except TypeError as error:
        return str(error)
    except ValueError:  # written in C
        pass
    return ""

"""Calls a service's function that builds its bus, and checks what it returned.

Does not know where the function was found.
"""

import inspect
from collections.abc import Callable
from typing import Any

from bus.bus import Bus
from bus.common.signatures import inspected, with_article
from bus.errors import ConfigurationError
from bus.settings import Settings


def caller_of(
    where: str, build: Callable[..., Any], settings: Callable[[], Settings]
) -> Callable[[], Any]:
    """Returns a function that calls `build`, with settings if it takes any.

    Raises: ConfigurationError.
    """
    if inspect.iscoroutinefunction(build):
        raise ConfigurationError(
            f"{where} is an async function; write it as a plain `def`: a bus is made without "
            f"awaiting anything, and connects where it is opened"
        )
    try:
        signature = inspected(build)
    except (TypeError, ValueError):
        return lambda: build(settings())
    if _fits(signature, object()):
        return lambda: build(settings())
    if _fits(signature, settings=object()):
        return lambda: build(settings=settings())
    if _fits(signature):
        return build
    raise ConfigurationError(
        f"{where} takes {signature}; it is called with Settings alone: give the other parameters "
        f"defaults, or name a function that gives them, def build_one(settings): return "
        f"{getattr(build, '__name__', 'build')}(settings, ...)"
    )


def as_bus(where: str, built: object) -> Bus:
    """Returns what the function built. Raises: ConfigurationError if it is not a bus."""
    if isinstance(built, Bus):
        return built
    if inspect.iscoroutine(built):
        built.close()
    raise ConfigurationError(
        f"{where} returned {a(built)}; it must take Settings and return a Bus that is not opened"
    )


def a(found: object) -> str:
    """Names the type of an object, with its article."""
    if found is None:
        return "None"
    return with_article(type(found).__name__)


def _fits(signature: inspect.Signature, *given: object, **named: object) -> bool:
    try:
        signature.bind(*given, **named)
    except TypeError:
        return False
    return True

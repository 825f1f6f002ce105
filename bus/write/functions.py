"""Finds the functions in an attribute of a class, however they are wrapped. Pure."""

from collections.abc import Iterator, Mapping
from functools import cached_property, partial, partialmethod, singledispatchmethod
from types import FunctionType, MethodType
from typing import Any

WITHIN = ("__func__", "__wrapped__", "func", "fget", "fset", "fdel")
WRAPPERS = (
    classmethod, staticmethod, MethodType, property, cached_property, partial, partialmethod
)  # fmt: skip


def functions_in(value: Any) -> Iterator[FunctionType]:
    """Yields the functions that may run when an attribute is used or called, each one once."""
    found: dict[int, FunctionType] = {}
    _find(value, found, set())
    yield from found.values()


def dispatched_in(value: Any) -> list[type]:
    """Returns the classes for which a `singledispatchmethod` or `singledispatch` has functions."""
    return list(_registry_of(value))


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
    if isinstance(value, WRAPPERS) or "__wrapped__" in getattr(value, "__dict__", ()):
        for name in WITHIN:
            _find(getattr(value, name, None), found, seen)


def _registry_of(value: Any) -> Mapping[type, Any]:
    if isinstance(value, singledispatchmethod):
        value = value.dispatcher
    registry = getattr(value, "__dict__", {}).get("registry")
    return registry if isinstance(value, FunctionType) and isinstance(registry, Mapping) else {}

"""Finds what a service's packages declare but its bus does not list."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from bus.bus import Bus
from bus.declare.router import Router
from bus.read.projection import Projection


def not_listed(bus: Bus, *packages: str) -> list[str]:
    """Returns the routers and projections in these packages that are not in `Bus(...)`, and so are
    never served.

        assert not_listed(build(Settings.in_memory()), "handlers", "read_models") == []

    Imports every module of the packages.
    """
    listed = [*bus.runtime.routers.values(), *bus.runtime.projections]
    found: dict[int, str] = {}
    for module in _modules(packages):
        for name, value in vars(module).items():
            if isinstance(value, Router | Projection) and value not in listed:
                kind = type(value).__name__
                found.setdefault(id(value), f"{module.__name__}.{name}: {kind}({value.name!r})")
    return sorted(found.values())


def _modules(packages: tuple[str, ...]) -> Iterator[ModuleType]:
    for package in packages:
        top = importlib.import_module(package)
        yield top
        for found in pkgutil.walk_packages(getattr(top, "__path__", ()), f"{package}."):
            if found.name.rpartition(".")[2] != "__main__":
                yield importlib.import_module(found.name)

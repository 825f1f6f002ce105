"""What `Bus(...)` is given: of the kinds that it takes, before anything is made of it. No I/O."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from bus.errors import ConfigurationError
from bus.read.projection import Projection
from bus.router import Router
from bus.settings import Settings


def check_arguments(
    service: object,
    routers: object,
    projections: object,
    settings: object,
    provide: object,
    middleware: object,
    foreign: Any,
) -> None:
    """Raises: ConfigurationError for what is of another kind, with how it is written."""
    where = f"Bus({service!r:.100})"
    if not isinstance(service, str):
        raise ConfigurationError(f"{where}: the service's name is text, as in Bus('orders', ...)")
    _check(f"{where}: settings", settings, Settings, "Settings()")
    _check_each(f"{where}: routers", routers, Router, "[orders]")
    _check_each(f"{where}: projections", projections, Projection, "[balances]")
    _check_each(f"{where}: middleware", middleware, Callable, "[timed]")
    _check(f"{where}: provide", provide, Mapping, "{Mailer: mailer}")
    _check(f"{where}: foreign", foreign, Mapping, "{'job': 'jobs'}")
    _check_each(f"{where}: foreign", foreign.values(), str, "{'job': 'jobs'}")


def _check_each(name: str, given: Any, kind: Any, example: str) -> None:
    _check(name, given, Collection, example)
    for one in given:
        _check(name, one, kind, example, "holds something")


def _check(name: str, given: object, kind: Any, example: str, what: str = "is") -> None:
    if isinstance(given, kind):
        return
    found = f"{what} of type {type(given).__name__}"
    if isinstance(given, type):
        found = f"{what.removesuffix(' something')} the class {given.__name__}"
    raise ConfigurationError(f"{name}= {found}; write {name.rpartition(' ')[2]}={example}")

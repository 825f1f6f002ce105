"""What `Bus(...)` is given: of the kinds that it takes, before anything is made of it. No I/O."""

from collections.abc import Collection, Mapping
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
    foreign: object,
) -> None:
    """Raises: ConfigurationError for what is of another kind, with how it is written."""
    where = f"Bus({service!r:.100})"
    if not isinstance(service, str):
        raise ConfigurationError(f"{where}: the service's name is text, as in Bus('orders', ...)")
    if not isinstance(settings, Settings):
        _refuse(where, "settings", settings, "Settings()")
    _check_all(where, "routers", routers, Router, "[orders]")
    _check_all(where, "projections", projections, Projection, "[balances]")
    if not isinstance(middleware, Collection) or not all(map(callable, middleware)):
        _refuse(where, "middleware", middleware, "[timed]")
    if not isinstance(provide, Mapping):
        _refuse(where, "provide", provide, "{Mailer: mailer}")
    if not isinstance(foreign, Mapping) or not all(isinstance(o, str) for o in foreign.values()):
        _refuse(where, "foreign", foreign, "{'job': 'jobs'}")


def _check_all(where: str, name: str, given: object, kind: type, example: str) -> None:
    if not isinstance(given, Collection) or not all(isinstance(one, kind) for one in given):
        _refuse(where, name, given, f"{example}, a list of {kind.__name__}s")


def _refuse(where: str, name: str, given: Any, example: str) -> None:
    raise ConfigurationError(f"{where}: {name}= is given {given!r:.100}; write {name}={example}")

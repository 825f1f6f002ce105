"""Checks that `Bus(...)` is given the kinds of arguments that it takes, before any use. No I/O."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_origin

from bus.assembly.backend import Backend, default_backend
from bus.common.signatures import inspected, is_async, shown, with_article
from bus.declare.router import Router
from bus.dispatch.layers import check_layers
from bus.errors import ConfigurationError
from bus.messages import Envelope
from bus.read.documents import Documents
from bus.read.projection import Projection
from bus.settings import Settings
from bus.stores.session import Session
from bus.transports.feed import Feed
from bus.write.repository import Repository
from bus.write.unit_of_work import Outbox

BUILT = "def backend(service, projected, loops): return Backend(...)"
OWN: tuple[Any, ...] = (Envelope, Repository, Documents, Session, Outbox)


def check_arguments(
    service: object,
    routers: Any,
    projections: Any,
    settings: object,
    provide: Any,
    middleware: Any,
    foreign: Any,
) -> None:
    """Raises: ConfigurationError for an argument of another kind; it says how to write it."""
    where = f"Bus({service!r:.100})"
    if not isinstance(service, str):
        raise ConfigurationError(f"{where}: the service's name is text, as in Bus('orders', ...)")
    _check(f"{where}: settings", settings, Settings, "Settings()")
    _check_each(f"{where}: routers", routers, Router, "[orders]")
    _check_once(f"{where}: routers", routers)
    _check_each(f"{where}: projections", projections, Projection, "[balances]")
    _check_once(f"{where}: projections", projections)
    _check_each(f"{where}: middleware", middleware, Callable, "[timed]")
    check_layers(middleware, where)
    _check(f"{where}: provide", provide, Mapping, "{Mailer: mailer}")
    _check_provided(where, provide)
    _check(f"{where}: foreign", foreign, Mapping, "{'job': 'jobs'}")
    _check_each(f"{where}: foreign", foreign.values(), str | Feed, "{'job': 'jobs'}")


def check_backend(service: str, backend: object, client: object) -> None:
    """Raises: ConfigurationError if it is not a function, or is given besides a client."""
    where = f"Bus({service!r:.100})"
    if backend is None:
        return
    if backend is default_backend:
        raise ConfigurationError(
            f"{where}: backend=default_backend: call it first, as in default_backend(settings)"
        )
    if isinstance(backend, Backend) or backend is Backend or not callable(backend):
        is_class = isinstance(backend, type)
        found = "the class Backend" if is_class else f"of type {type(backend).__name__}"
        raise ConfigurationError(
            f"{where}: backend= is {found}; give a function that makes one for each opening, "
            f"{BUILT}"
        )
    if problem := _not_making(backend):
        raise ConfigurationError(f"{where}: backend= {problem}: {BUILT}")
    if client is not None:
        raise ConfigurationError(
            f"{where}: client= is for the default backend, which backend= takes the place of; "
            f"give it to that, as in default_backend(settings, client)"
        )


def _not_making(backend: Callable[..., Any]) -> str:
    """Returns why it cannot make a backend, or ""."""
    if is_async(backend):
        return (
            "is async, and nobody would await it (a bus connects where it is opened); write "
            "a plain `def`"
        )
    try:
        taken = inspected(backend)
    except ValueError:  # written in C
        return ""
    try:
        taken.bind(None, None, None)
    except TypeError:
        return f"takes {taken!s:.200}, and is called with three, by position; write it so"
    return ""


def check_made(service: str, made: object) -> None:
    """Raises: ConfigurationError if what was made is not a backend, or not a complete one."""
    where = f"Bus({service!r:.100}): its backend"
    if not isinstance(made, Backend):
        if inspect.iscoroutine(made):
            made.close()
        found = "None" if made is None else with_article(type(made).__name__)
        raise ConfigurationError(f"{where} is {found}; let what makes it return one, {BUILT}")
    for name in ("transport", "event_log", "collections", "control", "effects"):
        if getattr(made, name) is None:
            raise ConfigurationError(
                f"{where}: {name}=None: a bus cannot do without; give one, or take that of "
                f"default_backend(settings)"
            )
    if not is_async(made.disconnect):
        raise ConfigurationError(
            f"{where}: disconnect={made.disconnect!r:.100} is not an async function; write "
            f"`async def disconnect()`, or leave it out where there is nothing to close"
        )
    _check_each(f"{where}: middleware", made.middleware, Callable, "[timed]")
    check_layers(made.middleware, where)


def check_lent(service: str, lends: type, provide: Mapping[Any, Any]) -> None:
    """Raises: ConfigurationError if a value is provided where handlers are lent a session."""
    if lends in provide:
        name = lends.__name__
        raise ConfigurationError(
            f"Bus({service!r}): provide={{{name}: ...}}: a handler that takes {name} is lent one "
            f"for each run, in one transaction with its events; leave it out (for a session that "
            f"is none of that, provide a factory of the service's own type)"
        )


def _check_once(name: str, given: Collection[Any]) -> None:
    for item in given:
        if sum(item is other for other in given) > 1:
            kind = type(item).__name__
            raise ConfigurationError(
                f"{name}= holds the same {kind}({item.name!r}) twice; take it out once"
            )


def _check_provided(where: str, provide: Mapping[Any, Any]) -> None:
    for key in provide:
        if key in OWN or get_origin(key) in OWN:
            raise ConfigurationError(
                f"{where}: provide={{{shown(key)}: ...}}: the bus itself gives handlers that; "
                f"provide a type of your own, and let them take it"
            )


def _check_each(name: str, given: Any, kind: Any, example: str) -> None:
    _check(name, given, Collection, example)
    for item in given:
        _check(name, item, kind, example, "holds something")


def _check(name: str, given: object, kind: Any, example: str, what: str = "is") -> None:
    if isinstance(given, kind):
        return
    found = f"{what} of type {type(given).__name__}"
    if isinstance(given, type):
        found = f"{what.removesuffix(' something')} the class {given.__name__}"
    raise ConfigurationError(f"{name}= {found}; write it as in {name.rpartition(' ')[2]}={example}")

"""Where a service's log can be: the database of the service in MongoDB, or one in SQL."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from bus.assembly.backend import Backend, default_backend
from bus.assembly.runtime import HasRuntime, Runtime
from bus.common.urls import problem_of_log
from bus.continuity.owner import check_log, check_owner
from bus.errors import ConfigurationError
from bus.observe.loops import Loops
from bus.settings import MEMORY, Settings
from bus.stores.deadletters import KeepsLetters
from bus.stores.event_log import EventLog
from bus.stores.session import Effects

IN_MONGODB = "mongodb"


class LogPlace(NamedTuple):
    """A log, open, and the marks beside it. `name` is for people, without a password; `setting` is
    what processes are started with to have their log there; `letters` are the dead letters that
    are kept with the log, and do not go with it."""

    name: str
    log: EventLog
    effects: Effects
    setting: str = "its settings for that place"
    letters: KeepsLetters | None = None


@asynccontextmanager
async def log_at(bus: HasRuntime, where: str, *, makes: bool) -> AsyncIterator[LogPlace]:
    """Opens the log of a service at a place: `mongodb`, a URL as BUS_LOG_URL takes it, or the name
    of an environment variable that holds one. The bus need not be open.

    With `makes`, what is missing there is made, and it is the service's from then on.
    Raises: ConfigurationError (it is another service's), StoreUnavailable, OutcomeUnknown.
    """
    runtime = bus.runtime
    if not runtime.has_default_backend:
        raise ConfigurationError(
            f"Bus({runtime.service!r}) brings stores of its own, which its settings do not name; "
            f"move its log by a script: `bus.operate.log_copy.LogCopy` takes any two logs"
        )
    settings = _settings(runtime.settings, where)
    backend = default_backend(settings)(runtime.service, [], Loops())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.disconnect)
        stack.push_async_callback(backend.event_log.close)
        stack.push_async_callback(backend.effects.close)
        await backend.event_log.open(makes=makes)
        await _check(backend, runtime, takes=makes)
        if makes:
            await _prepare_states(bus, backend.event_log)
        name = _name(settings, runtime.service)
        setting = f"BUS_LOG_URL set to that of {name}" if settings.log_url else "no BUS_LOG_URL"
        letters = (backend.log_notes or backend.control) if settings.log_url else None
        yield LogPlace(
            name=name,
            log=backend.event_log,
            effects=backend.effects,
            setting=setting,
            letters=letters,
        )


async def _prepare_states(bus: HasRuntime, log: EventLog) -> None:
    """Has states be indexed as they are copied, so that the service need not do it when it begins
    there."""
    for kind in bus.runtime.aggregates:
        if kind.storing.by_state:
            await log.prepare_states(kind.category, kind.storing.indexes)


async def _check(backend: Backend, runtime: Runtime, *, takes: bool) -> None:
    service = runtime.service
    if backend.log_notes is None:
        await check_owner(backend.control, service, claims=takes)
        return
    control = None if runtime.settings.mongo_url == MEMORY else backend.control
    await check_log(backend.log_notes, control, service, claims=takes, moves=True)


def _settings(settings: Settings, where: str) -> Settings:
    """Returns the service's settings with its log at a place. Raises: ConfigurationError."""
    if where == IN_MONGODB:
        if settings.mongo_url == MEMORY:
            raise ConfigurationError(
                "the log of this service is in memory, and no other process reads it; set "
                "BUS_MONGO_URL"
            )
        if not settings.mongo_url:
            raise ConfigurationError(
                f"there is no place {IN_MONGODB!r} for the log of a service without MongoDB: set "
                f"BUS_MONGO_URL to the database that is meant"
            )
        return settings.model_copy(update={"log_url": ""})
    url = where if "://" in where else os.environ.get(where, "")
    if not url:
        raise ConfigurationError(
            f"there is no place {where!r} for a log: write {IN_MONGODB} (that of BUS_MONGO_URL), "
            f"a URL as BUS_LOG_URL takes it, or the name of an environment variable that holds one"
        )
    if problem := problem_of_log(url):
        raise ConfigurationError(f"the URL of the log {problem}")
    return settings.model_copy(update={"log_url": url})


def _name(settings: Settings, service: str) -> str:
    if not settings.log_url:
        return f"MongoDB (database {settings.mongo_db or service})"
    parts = urlsplit(settings.log_url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

"""The backend: the transport and the stores that a bus stands on.

Each technology is imported only if it is asked for. What connects is made for each opening; what is
in memory is made once for each service.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock
from typing import Any, Protocol, runtime_checkable

from bus.dispatch.middleware import Middleware
from bus.errors import ConfigurationError
from bus.observe.loops import Loops
from bus.settings import MEMORY, NOT_FOR_DATA, Settings
from bus.stores.collections import Collections
from bus.stores.control import Control
from bus.stores.event_log import EventLog, FollowedLog, ReadableLog
from bus.stores.routed import RoutedLog
from bus.stores.session import Effects, Join, Joined
from bus.transports.base import Transport
from bus.transports.feed import Feed


def as_declared(feed: Feed) -> Feed:
    """Returns the feed itself."""
    return feed


async def nothing() -> None:
    """Does nothing: there is no client to close, or its owner closes it."""


def joins_nothing(session: Any) -> Joined:
    """Raises: ConfigurationError, because the log is not in SQL."""
    raise ConfigurationError(
        "Bus.unit_of_work(session): the event log of this bus is not in SQL, so that no session of "
        "the application's can be one transaction with it; set BUS_LOG_URL to the URL of the "
        "session's database"
    )


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What a bus stands on. `disconnect` closes what was opened for it alone; `middleware` wraps
    every handler, inside the service's own. Without `followed` it can follow no other service.
    `join` lets an application's own transactions store commits. `log_notes` are notes in the
    log's database, if that is another than the one of `control`. `feed` returns what a feed that is
    declared is read from, in tests something else than that."""

    transport: Transport
    event_log: EventLog
    collections: Collections
    control: Control
    effects: Effects
    disconnect: Callable[[], Awaitable[None]] = nothing
    middleware: Sequence[Middleware] = ()
    followed: FollowedLog | None = None
    join: Join = joins_nothing
    log_notes: Control | None = None
    feed: Callable[[Feed], Feed] = as_declared


class MakeBackend(Protocol):
    """Makes the backend for one opening of a bus.

    `service` is the service's name, `projected` those of its projections. `loops` starts what runs
    in the background, and `loops.signals` takes what happens.
    """

    def __call__(self, service: str, projected: Sequence[str], loops: Loops) -> Backend: ...


@runtime_checkable
class BringsBackend(Protocol):
    """Settings that bring a backend, as those of `bus.testing` do: a service's function that builds
    its bus from the settings uses it without naming it."""

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend: ...


def brought_by(settings: Settings) -> MakeBackend | None:
    """Returns what makes the settings' own backend, if they bring one."""
    return settings.backend if isinstance(settings, BringsBackend) else None


def default_backend(settings: Settings, client: Any = None) -> MakeBackend:
    """Returns what makes the backend of the settings: RabbitMQ and MongoDB, or the pair in memory.

    A backend of one's own may take its other parts from there:

        usual = default_backend(settings)  # once: it holds what is in memory

        def backend(service, projected, loops):
            transport = MyTransport(service)
            return dataclasses.replace(usual(service, projected, loops), transport=transport)

        Bus("orders", settings=settings, backend=backend)

    `client` is a MongoDB client to use, or a function that makes one.

    Raises: ConfigurationError, as does what it returns.
    """
    if not isinstance(settings, Settings):
        raise ConfigurationError(
            f"default_backend({settings!r:.100}): it takes settings; write it as in "
            f"default_backend(Settings())"
        )
    making = Lock()

    @cache
    def makers(service: str) -> tuple[_Transports, _Stores]:
        stores = _with_log if settings.log_url else _stores
        return _transports(service, settings), stores(service, settings, client)

    def make(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        with making:  # several threads must find what the first one made
            transports, stores = makers(service)
        return stores(transports(loops), projected, loops)

    return make


def read_log_of(
    service: str, own: EventLog, followed: FollowedLog | None, copied: Mapping[str, str]
) -> tuple[ReadableLog, FollowedLog | None]:
    """Returns the log that projections read, and the copy of other services' streams if any are
    `copied`.

    Raises: ConfigurationError if there is no place for the copy.
    """
    if not copied:
        return own, None
    if followed is None:
        raise ConfigurationError(
            f"Bus({service!r}): its backend has no log for the events of other services; let it "
            f"give one, as Backend(..., followed=...)"
        )
    return RoutedLog(own, followed, copied), followed


_Transports = Callable[[Loops], Transport]
_Stores = Callable[[Transport, Sequence[str], Loops], Backend]


def _transports(service: str, settings: Settings) -> _Transports:
    if settings.amqp_url == MEMORY:
        from bus.transports.memory.transport import MemoryBroker, MemoryTransport

        broker = MemoryBroker()
        return lambda loops: MemoryTransport(broker, service)
    from bus.transports.rabbitmq import RabbitTransport

    return lambda loops: RabbitTransport(
        settings.amqp_urls,
        service=service,
        heartbeat=settings.heartbeat,
        makes=settings.declare == "always",
        loops=loops,
    )


def _with_log(service: str, settings: Settings, client: Any) -> _Stores:
    """Returns what makes a backend with its log in SQL, and all else in MongoDB, or without."""
    from bus.stores.sql import (
        Joining,
        LogNotes,
        NoCollections,
        SqlControl,
        SqlEffects,
        SqlEventLog,
        connect,
    )

    has_documents = bool(settings.mongo_url) or client is not None
    besides = _stores(service, settings, client) if has_documents else None
    creates = settings.declare == "always"

    def with_log(transport: Transport, projected: Sequence[str], loops: Loops) -> Backend:
        if projected and besides is None:
            raise ConfigurationError(
                f"Bus({service!r}): its projection {projected[0]!r} keeps documents or versions in "
                f"MongoDB; set BUS_MONGO_URL, or keep it elsewhere, as in "
                f"sink=SqlTable(table, url=...) (without MongoDB a bus has its log in SQL, and no "
                f"documents)"
            )
        backend = besides(transport, projected, loops) if besides else None
        engine = connect(settings.log_url)
        log = SqlEventLog(engine, creates=creates)
        effects = SqlEffects(engine, log, handled_for=settings.handled_for, loops=loops)
        join = Joining(engine, log)
        if backend is None:
            control = SqlControl(engine, creates=creates)
            return Backend(
                transport=transport,
                event_log=log,
                collections=NoCollections(control),
                control=control,
                effects=effects,
                join=join,
                disconnect=engine.dispose,
            )

        async def disconnect() -> None:
            await engine.dispose()
            await backend.disconnect()

        return replace(
            backend,
            event_log=log,
            effects=effects,
            join=join,
            disconnect=disconnect,
            log_notes=LogNotes(engine),
        )

    return with_log


def _stores(service: str, settings: Settings, client: Any) -> _Stores:
    handled_for = settings.handled_for
    if settings.mongo_url == MEMORY and client is None:
        from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
        from bus.stores.memory.effects import MemoryEffects
        from bus.stores.memory.log import MemoryFollowedLog

        log, followed = MemoryEventLog(), MemoryFollowedLog()
        collections, control = MemoryCollections(), MemoryControl()
        return lambda transport, projected, loops: Backend(
            transport=transport,
            event_log=log,
            collections=collections,
            control=control,
            effects=MemoryEffects(log, collections, projected=projected, handled_for=handled_for),
            followed=followed,
        )
    from bus.stores.mongo import (
        MongoCollections,
        MongoControl,
        MongoEffects,
        MongoEventLog,
        MongoFollowedLog,
        ServerClock,
        checked,
        close,
        connect,
        makes_clients,
    )

    name = settings.mongo_db or service
    if name in NOT_FOR_DATA:
        raise ConfigurationError(
            f"Bus({service!r}): the database {name!r} is one of MongoDB's own; set BUS_MONGO_DB to "
            f"another, or name the service otherwise"
        )

    def stores(transport: Transport, projected: Sequence[str], loops: Loops) -> Backend:
        make = partial(connect, settings.mongo_url) if client is None else client
        is_own = makes_clients(make)
        uses = checked(make() if is_own else client)
        clock = ServerClock()
        event_log = MongoEventLog(uses, name, clock=clock, loops=loops)
        return Backend(
            transport=transport,
            event_log=event_log,
            collections=MongoCollections(uses, name, clock=clock),
            control=MongoControl(uses, name, clock=clock),
            effects=MongoEffects(
                uses, name, event_log, projected=projected, handled_for=handled_for
            ),
            disconnect=partial(close, uses) if is_own else nothing,
            followed=MongoFollowedLog(uses, name, clock=clock),
        )

    return stores

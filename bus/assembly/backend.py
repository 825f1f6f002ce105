"""Backend: the transport and stores that a bus stands on, chosen by its settings.

Each technology is imported only where it is asked for. What connects is made for each opening; what
is in memory is made once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from bus.dispatch.middleware import Middleware
from bus.errors import ConfigurationError
from bus.observe.loops import Loops
from bus.settings import MEMORY, NOT_FOR_DATA, Settings
from bus.stores.collections import ReadStore
from bus.stores.event_log import EventLog, FollowedLog, ReadableLog
from bus.stores.routed import RoutedLog
from bus.stores.session import Effects
from bus.transports.base import Transport

Closing = Callable[[], Awaitable[None]]


class Backend(NamedTuple):
    """What a bus stands on. `disconnect` closes what was opened for it alone; `middleware` goes
    round every handler, inside of the service's own. Without `followed` it can follow no other
    service."""

    transport: Transport
    event_log: EventLog
    read_store: ReadStore
    effects: Effects
    disconnect: Closing
    middleware: Sequence[Middleware] = ()
    followed: FollowedLog | None = None


@runtime_checkable
class BringsBackend(Protocol):
    """Settings that bring transport and stores themselves, as those of `bus.testing` do; they are
    asked for each opening of the bus."""

    def backend(self, service: str, projected: Sequence[str]) -> Backend: ...


MakeBackend = Callable[[Loops], Backend]
"""Gives the backend for one opening. What goes on in it for ever are loops of those given."""


def backend_maker(
    service: str, settings: Settings, client: Any, projected: Sequence[str]
) -> MakeBackend:
    """What the settings ask for; `client` is a MongoDB client to use instead of one of our own, or
    a function that makes one."""
    if isinstance(settings, BringsBackend):
        return lambda loops: settings.backend(service, projected)
    transports = _transports(service, settings)
    stores = _stores(service, settings, client, projected)

    def make(loops: Loops) -> Backend:
        log, store, effects, closing, followed = stores(loops)
        return Backend(transports(loops), log, store, effects, closing, followed=followed)

    return make


def read_log_of(
    service: str, own: EventLog, followed: FollowedLog | None, copied: Mapping[str, str]
) -> tuple[ReadableLog, FollowedLog | None]:
    """What projections read, and the copy of other services' streams, where any are `copied`.

    Raises: ConfigurationError, where there is no place for the copy.
    """
    if not copied:
        return own, None
    if followed is None:
        raise ConfigurationError(
            f"Bus({service!r}): these settings bring no log for the events of other services; let "
            f"their `backend` give one, as Backend(..., followed=...)"
        )
    return RoutedLog(own, followed, copied), followed


def _transports(service: str, settings: Settings) -> Callable[[Loops], Transport]:
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


Stores = tuple[EventLog, ReadStore, Effects, Closing, FollowedLog]


def _stores(
    service: str, settings: Settings, client: Any, projected: Sequence[str]
) -> Callable[[Loops], Stores]:
    rules: dict[str, Any] = {"projected": projected, "handled_for": settings.handled_for}
    if settings.mongo_url == MEMORY and client is None:
        from bus.stores.memory import MemoryEventLog, MemoryReadStore
        from bus.stores.memory.effects import MemoryEffects
        from bus.stores.memory.log import MemoryFollowedLog

        log, store = MemoryEventLog(), MemoryReadStore()
        effects, followed = MemoryEffects(log, store, **rules), MemoryFollowedLog()
        return lambda loops: (log, store, effects, nothing, followed)
    from bus.stores.mongo import (
        MongoEffects,
        MongoEventLog,
        MongoFollowedLog,
        MongoReadStore,
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

    def stores(loops: Loops) -> Stores:
        make = partial(connect, settings.mongo_url) if client is None else client
        is_own = makes_clients(make)
        uses = checked(make() if is_own else client)
        closing = partial(close, uses) if is_own else nothing
        clock = ServerClock()
        event_log = MongoEventLog(uses, name, clock=clock, loops=loops)
        effects = MongoEffects(uses, name, event_log, **rules)
        followed = MongoFollowedLog(uses, name, clock=clock)
        return event_log, MongoReadStore(uses, name, clock=clock), effects, closing, followed

    return stores


async def nothing() -> None:
    """There is no client to close, or it is its owner's to close."""

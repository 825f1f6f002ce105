"""Backend: the transport and stores that a bus stands on, chosen by its settings.

Each technology is imported only where it is asked for.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from bus.errors import ConfigurationError
from bus.loops import Loops
from bus.middleware import Middleware
from bus.settings import MEMORY, Settings
from bus.stores.base import EventLog, FollowedLog, ReadableLog, ReadStore
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
    """Settings that bring transport and stores themselves, as those of `bus.testing` do."""

    def backend(self, service: str, projected: Sequence[str]) -> Backend: ...


def backend_of(
    service: str,
    settings: Settings,
    client: Any,
    projected: Sequence[str],
    loops: Loops | None = None,
) -> Backend:
    """What the settings ask for; `client` is a MongoDB client to use instead of one of our own.

    What goes on in it for ever are loops of `loops`.
    """
    loops = loops or Loops()
    if isinstance(settings, BringsBackend):
        return settings.backend(service, projected)
    log, store, effects, closing, followed = _stores(service, settings, client, projected, loops)
    transport = _transport(service, settings, loops)
    return Backend(transport, log, store, effects, closing, followed=followed)


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


def _transport(service: str, settings: Settings, loops: Loops) -> Transport:
    if settings.amqp_url == MEMORY:
        from bus.transports.memory import MemoryBroker, MemoryTransport

        return MemoryTransport(MemoryBroker(), service)
    from bus.transports.rabbitmq import RabbitTransport

    return RabbitTransport(
        settings.amqp_urls,
        service=service,
        heartbeat=settings.heartbeat,
        makes=settings.declare == "always",
        loops=loops,
    )


async def _nothing() -> None:
    """A client that was given to us is its owner's to close."""


def _stores(
    service: str, settings: Settings, client: Any, projected: Sequence[str], loops: Loops
) -> tuple[EventLog, ReadStore, Effects, Closing, FollowedLog]:
    rules: dict[str, Any] = {"projected": projected, "handled_for": settings.handled_for}
    if settings.mongo_url == MEMORY and client is None:
        from bus.stores.memory import MemoryEventLog, MemoryReadStore
        from bus.stores.memory_effects import MemoryEffects
        from bus.stores.memory_log import MemoryFollowedLog

        log, store = MemoryEventLog(), MemoryReadStore()
        return log, store, MemoryEffects(log, store, **rules), _nothing, MemoryFollowedLog()
    from bus.stores.mongo import (
        MongoEffects,
        MongoEventLog,
        MongoFollowedLog,
        MongoReadStore,
        ServerClock,
        close,
        connect,
    )

    own = connect(settings.mongo_url) if client is None else None
    client = client if own is None else own
    name = settings.mongo_db or service
    closing = _nothing if own is None else partial(close, own)
    clock = ServerClock()
    event_log = MongoEventLog(client, name, clock=clock, loops=loops)
    effects = MongoEffects(client, name, event_log, **rules)
    followed = MongoFollowedLog(client, name, clock=clock)
    return event_log, MongoReadStore(client, name, clock=clock), effects, closing, followed

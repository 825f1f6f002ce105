"""The topology at the broker, kept as it should be: declared as a whole before anything is sent.

A broker may come back empty, and anybody may delete an exchange, a queue or a binding. Publishers
that made only their exchanges would have events confirmed that no queue took.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from bus.errors import ConfigurationError, TopologyMismatch, TransportUnavailable
from bus.observe.log import Logger
from bus.transports.bindings import Exchange, events_of
from bus.transports.rabbitmq.connection import RabbitSession, connect_any
from bus.transports.rabbitmq.declare import (
    Thing,
    declare,
    delete,
    missing,
    of_several_consumers,
    unfed,
)
from bus.transports.rabbitmq.refusals import right_remedy
from bus.transports.topology import Topology

log = Logger("bus.rabbitmq")
T = TypeVar("T")

_TIMEOUT = 60.0


class Declaring:
    """Declares on connections that are thrown away, because what is refused ends its channel.

    Where `makes` is off, it makes nothing and says what is missing. `remade` hears of the queues
    that had to be made.
    """

    def __init__(
        self,
        urls: Sequence[URL],
        connect_timeout: float,
        *,
        makes: bool,
        remade: Callable[[Collection[str]], None],
    ) -> None:
        self._urls = urls
        self._connect_timeout = connect_timeout
        self._makes = makes
        self._remade = remade
        self._topology: Topology | None = None
        self._events = Exchange()
        self._declared_at = 0.0
        self._lock = asyncio.Lock()
        self._mismatches: dict[str, str] = {}
        self._anew: set[str] = set()
        self._unfed: set[str] = set()
        """Queues that miss events until all is declared again."""

    async def declare(self, topology: Topology) -> None:
        """Declares it now, and from now on whenever it is to be declared again.

        What does not match stops nothing else: it is bound all the same, so that nothing passes it
        by, and told in the end. Raises: TopologyMismatch, TransportUnavailable, ConfigurationError.
        """
        if topology != self._topology:
            self._topology = topology
            self._events = events_of(topology)
        async with self._lock:
            await self._declare(topology)
        for what in self._mismatches.values():
            raise TopologyMismatch(what)

    async def since(self, moment: float) -> None:
        """Returns once the topology was declared after this moment (`time.monotonic`).

        Queues that do not match are told by `check`. Raises: as `declare`, where something is
        missing that is not made here.
        """
        async with self._lock:
            if self._topology is not None and self._declared_at <= moment:
                await self._declare(self._topology)

    async def restore(self, topology: Topology) -> list[str]:
        """Declares this once more, whatever it is, and returns what was missing.

        Raises: as `declare`.
        """
        gone, mismatches = await self._made(topology)
        for what in mismatches.values():
            raise TopologyMismatch(what)
        return [str(thing) for thing in gone]

    def made_anew(self) -> list[str]:
        """As `Transport.made_anew`."""
        anew, self._anew = self._anew, set()
        return sorted(anew)

    def note_missed(self, topics: Collection[str]) -> None:
        """Notes that the queues which these topics are for were not bound to them."""
        if self._topology:
            queues = {queue for topic in topics for queue in self._events.queues(topic)}
            self._unfed.update(of_several_consumers(self._topology, queues))

    def check(self, queue: str) -> None:
        """Raises: TopologyMismatch, where the queue is another one than this service's."""
        if what := self._mismatches.get(queue):
            raise TopologyMismatch(what)

    @property
    def queues_of(self) -> Callable[[str], list[str]]:
        """Tells which queues of this service an event of a topic is to reach."""
        return self._events.queues

    async def delete(self, queues: Sequence[str]) -> None:
        """Deletes queues, with what is in them."""
        await self._apart(partial(delete, queues=queues), "deleting", ", ".join(queues))

    async def _declare(self, topology: Topology) -> None:
        began = time.monotonic()
        _, self._mismatches = await self._made(topology)
        self._declared_at = began

    async def _made(self, topology: Topology) -> tuple[list[Thing], dict[str, str]]:
        """What was gone; and the queues that are otherwise, with what there is to say of each."""
        service = topology.service
        if self._makes:
            work = partial(self._make, topology=topology)
            made = await self._apart(work, "declaring", service)
            self._tell_anew()
            return made
        if gone := await self._apart(partial(missing, topology=topology), "checking", service):
            raise TopologyMismatch(
                f"RabbitMQ lacks what {service} needs, and BUS_DECLARE=never makes "
                f"nothing: {', '.join(map(str, gone))}. Let a user who may declare it run `bus "
                f"topology MODULE:build --declare`, or set BUS_DECLARE=always"
            )
        self._tell_anew()
        return [], {}

    def _tell_anew(self) -> None:
        """Not before all is bound: what is sent again until then is not all that was missed."""
        self._anew |= self._unfed
        self._unfed.clear()

    async def _make(
        self, session: RabbitSession, topology: Topology
    ) -> tuple[list[Thing], dict[str, str]]:
        gone = await missing(session, topology)
        self._unfed.update(unfed(topology, gone))
        mismatches = await declare(session, topology)
        self._remade({thing.name for thing in gone if thing.kind == "queue"})
        return gone, mismatches

    async def _apart(
        self, work: Callable[[RabbitSession], Awaitable[T]], what: str, service: str
    ) -> T:
        """On a connection of its own, which may be refused and closed."""
        session = await connect_any(self._urls, self._connect_timeout)
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await work(session)
        except ChannelAccessRefused as error:
            raise ConfigurationError(f"RabbitMQ: {error}; {right_remedy(service)}") from None
        except (TimeoutError, ConnectionError, AMQPError, ChannelInvalidStateError) as error:
            raise TransportUnavailable(f"RabbitMQ: {what} failed: {error}") from None
        finally:
            await session.close()

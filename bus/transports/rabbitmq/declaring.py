"""Keeps the topology at the broker as it should be: declared as a whole before anything is sent.

A broker may come back empty, and anybody may delete an exchange, a queue or a binding. If
publishers declared only their exchanges, events that no queue took would be confirmed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
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

APART_WITHIN = 60.0
"""Seconds for work on a connection of its own."""


class QueuesDiffer(TopologyMismatch):
    """Queues have other properties, and nothing else has. `whys` has the refusals, by queue."""

    def __init__(self, whys: Mapping[str, str]) -> None:
        super().__init__(next(iter(whys.values())))
        self.whys = whys


class Declaring:
    """Declares on throw-away connections, because a refusal closes its channel.

    Without `makes` it creates nothing and says what is missing. `remade` is called with the queues
    that had to be created.
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
        """Queues that miss events until everything is declared again."""

    async def declare(self, topology: Topology) -> None:
        """Declares a topology now, and remembers it for `since`.

        A queue that does not match stops nothing else: it is bound anyway, so that it misses
        nothing, and raised at the end.
        Raises: QueuesDiffer; TopologyMismatch for an exchange, TransportUnavailable,
        ConfigurationError.
        """
        if topology != self._topology:
            self._topology = topology
            self._events = events_of(topology)
        async with self._lock:
            await self._declare(topology)
        if self._mismatches:
            raise QueuesDiffer(self._mismatches)

    async def since(self, moment: float) -> None:
        """Makes sure that the topology was declared after this moment (`time.monotonic`).

        Queues that do not match are reported by `check`. Raises: TransportUnavailable,
        ConfigurationError; TopologyMismatch for an exchange, or if something is missing that may
        not be created here.
        """
        async with self._lock:
            if self._topology is not None and self._declared_at <= moment:
                await self._declare(self._topology)

    async def restore(self, topology: Topology) -> list[str]:
        """Declares any topology once more, and returns what was missing.

        Raises: like `declare`.
        """
        gone, mismatches = await self._made(topology)
        for mismatch in mismatches.values():
            raise TopologyMismatch(mismatch)
        return [str(thing) for thing in gone]

    def made_anew(self) -> list[str]:
        """Returns the queues that were missing, or missed events, since the last call."""
        anew, self._anew = self._anew, set()
        return sorted(anew)

    def note_missed(self, topics: Collection[str]) -> None:
        """Notes that the queues for these topics were not bound to them."""
        if self._topology:
            queues = {queue for topic in topics for queue in self._events.queues(topic)}
            self._unfed.update(of_several_consumers(self._topology, queues))

    def check(self, queue: str) -> None:
        """Raises: TopologyMismatch, if the queue has other properties than this service's."""
        if mismatch := self._mismatches.get(queue):
            raise TopologyMismatch(mismatch)

    @property
    def queues_of(self) -> Callable[[str], list[str]]:
        """A function from an event's topic to the queues of this service that it should reach."""
        return self._events.queues

    async def delete(self, queues: Sequence[str]) -> None:
        """Deletes queues with all their messages."""
        await self._apart(partial(delete, queues=queues), "deleting", ", ".join(queues))

    async def _declare(self, topology: Topology) -> None:
        began = time.monotonic()
        _, self._mismatches = await self._made(topology)
        self._declared_at = began

    async def _made(self, topology: Topology) -> tuple[list[Thing], dict[str, str]]:
        """Declares; returns what was gone, and the queues that do not match, with why."""
        service = topology.service
        if self._makes:
            work = partial(self._make, topology=topology)
            made = await self._apart(work, "declaring", service)
            self._report_unfed()
            return made
        if gone := await self._apart(partial(missing, topology=topology), "checking", service):
            raise TopologyMismatch(
                f"RabbitMQ lacks what {service} needs, and BUS_DECLARE=never makes "
                f"nothing: {', '.join(map(str, gone))}. Let a user who may declare it run `bus "
                f"topology apply MODULE:build`, or set BUS_DECLARE=always"
            )
        self._report_unfed()
        return [], {}

    def _report_unfed(self) -> None:
        """Moves the queues that missed events to what `made_anew` returns.

        Only once everything is bound: who sends again before that would not send all that was
        missed.
        """
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
        self, work: Callable[[RabbitSession], Awaitable[T]], doing: str, service: str
    ) -> T:
        return await apart(self._urls, self._connect_timeout, work, doing, service)


async def apart(
    urls: Sequence[URL],
    connect_timeout: float,
    work: Callable[[RabbitSession], Awaitable[T]],
    doing: str,
    service: str,
    *,
    timeout: float | None = APART_WITHIN,
) -> T:
    """Runs work on a connection of its own, which a refusal may close.

    Raises: ConfigurationError, TransportUnavailable.
    """
    session = await connect_any(urls, connect_timeout)
    try:
        async with asyncio.timeout(timeout):
            return await work(session)
    except ChannelAccessRefused as error:
        raise ConfigurationError(f"RabbitMQ: {error}; {right_remedy(service)}") from None
    except (TimeoutError, ConnectionError, AMQPError, ChannelInvalidStateError) as error:
        why = str(error) or f"no answer within {timeout} s"  # a time-out has no words
        raise TransportUnavailable(f"RabbitMQ: {doing} failed: {why}") from None
    finally:
        await session.close()

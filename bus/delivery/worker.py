"""Worker: runs a bus's subscriptions in this process, and the relay beside them.

Its life: declare → consume, relay and sweep → stop taking → finish and settle → leave.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from bus import ambient
from bus.delivery.consumer import Consumer
from bus.delivery.drain import DeadQueueConsumer
from bus.delivery.faults import GiveUp
from bus.delivery.handling import HandlerConsumer
from bus.delivery.health_server import HealthServer
from bus.delivery.loop_watch import LoopWatch
from bus.delivery.projecting import ProjectionConsumer
from bus.delivery.replies import Replies
from bus.delivery.retry import pauses
from bus.delivery.sentinel import Sentinel, consumer_check
from bus.errors import ConfigurationError, OutcomeUnknown, Unavailable
from bus.health import Check
from bus.log import Logger
from bus.messages import Envelope
from bus.parts import HasParts, Parts, Subscription, event_registry
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper
from bus.router import Router
from bus.tasks import end
from bus.transports.topology import dead_queue
from bus.write.relay import Relay

TEND_EVERY = 2.0
PROJECTIONS_SHARE = 0.2
PATIENCE = 10

log = Logger("bus.worker")


class Worker:
    """Consumes the queues of a bus's subscriptions while it is entered.

        async with build(settings) as bus, Worker(bus):
            ...

    `only` names the subscriptions to run (projections, routers, "commands"), or single partitions
    of a projection ("balances.0of4"); all by default. The bus must be open by then. Any number of
    workers may run; a projection's queue has one active consumer, the first that came, so a worker
    of all partitions keeps all of them.
    """

    def __init__(self, bus: HasParts, *, only: Collection[str] = ()) -> None:
        self._bus = bus
        self._chosen = _chosen(bus.parts, frozenset(only))
        self._consumers: list[Consumer] = []
        self._tasks: dict[Consumer, asyncio.Task[None]] = {}
        self._others: list[asyncio.Task[None]] = []
        settings, checkup = bus.parts.settings, bus.parts.checkup
        self._server = HealthServer(checkup, settings.health_host, settings.health_port)
        self._checks: list[Check] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        parts = self._bus.parts
        chosen = self._chosen
        self._stopping = False
        if parts.settings.health_port:
            await self._server.start()
        self._consumers = _all_consumers(parts, chosen)
        self._tasks = {
            one: asyncio.create_task(_supervise(one.run, one.queue)) for one in self._consumers
        }
        relay = Relay(parts.event_log, parts.publisher, parts.read_store)
        self._others = [asyncio.create_task(_supervise(relay.run, "relay")), *self._watches()]
        for one in chosen:
            if isinstance(one.of, Projection):
                look_after = partial(_look_after, parts, one.of, self._is_behind(one))
                task = asyncio.create_task(_supervise(look_after, f"{one.name}.sweep"))
                self._others.append(task)
        log.info("worker started", service=parts.service, subscriptions=[s.name for s in chosen])
        return self

    def _is_behind(self, subscription: Subscription) -> Callable[[], bool]:
        """Tells whether this worker has a backlog in a queue of a projection just now."""
        names = {queue.name for queue in subscription.queues}
        consumers = [c for c in self._consumers if isinstance(c, ProjectionConsumer)]
        own = [consumer for consumer in consumers if consumer.queue in names]
        transport = self._bus.parts.transport
        return lambda: transport.healthy and any(consumer.behind for consumer in own)

    def _watches(self) -> list[asyncio.Task[None]]:
        """What looks after this worker itself; health asks the same."""
        parts = self._bus.parts
        every = parts.settings.sentinel_every
        sentinel, loop = Sentinel(self._consumers, parts.transport, every=every), LoopWatch()
        consuming = (consumer_check(one, parts.transport) for one in self._consumers)
        stopping = Check("worker", self._is_stopping, "ready")
        self._checks = [stopping, *consuming, sentinel.check, loop.check]
        parts.checkup.add(self._checks)
        return [
            asyncio.create_task(_supervise(sentinel.run, "sentinel")),
            asyncio.create_task(_supervise(loop.run, "event loop")),
        ]

    async def _is_stopping(self) -> str | None:
        return "it is stopping" if self._stopping else None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Takes nothing more, finishes and settles what is at hand, within `stop_within` seconds.

        Handlers end before projections: one may be waiting for a projection of this very worker.
        What could not be finished is delivered again.
        """
        within = self._bus.parts.settings.stop_within
        deadline = time.monotonic() + within
        self._stopping = True
        for task in self._others:
            task.cancel()
        projections = [one for one in self._consumers if isinstance(one, ProjectionConsumer)]
        others = [one for one in self._consumers if one not in projections]
        try:
            await self._finish(others, deadline - within * PROJECTIONS_SHARE)
            await self._finish(projections, deadline)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Ends what still runs, also where the stopping itself was cancelled."""
        tasks = [*self._tasks.values(), *self._others]
        unfinished = [task for task in self._tasks.values() if not task.done()]
        self._bus.parts.checkup.remove(self._checks)
        self._consumers, self._tasks, self._others, self._checks = [], {}, [], []
        try:
            await end(tasks)
        finally:
            await self._server.close()
        log.info("worker stopped", unfinished=len(unfinished))

    async def _finish(self, consumers: Collection[Consumer], deadline: float) -> None:
        """Stops these, and waits until the deadline for what they have at hand."""
        left = deadline - time.monotonic()
        await asyncio.gather(*(one.stop(left) for one in consumers), return_exceptions=True)
        if consumers:
            tasks = [self._tasks[one] for one in consumers]
            await asyncio.wait(tasks, timeout=max(0, deadline - time.monotonic()))


def _chosen(parts: Parts, only: frozenset[str]) -> list[Subscription]:
    """The subscriptions, each with those of its queues that were named."""
    if not only:
        return list(parts.subscriptions)
    start = len(parts.service) + 1
    chosen = []
    for one in parts.subscriptions:
        queues = [q for q in one.queues if one.name in only or q.name[start:] in only]
        if queues:
            chosen.append(one._replace(queues=tuple(queues)))
    known = {n for one in chosen for n in (one.name, *(q.name[start:] for q in one.queues))}
    if unknown := sorted(only - known):
        names = [one.name for one in parts.subscriptions]
        raise ConfigurationError(
            f"service {parts.service!r} has no subscription {', '.join(unknown)}; "
            f"it has {', '.join(names)}"
        )
    return chosen


def _all_consumers(parts: Parts, chosen: Sequence[Subscription]) -> list[Consumer]:
    give_up = GiveUp(parts)
    consumers = [consumer for one in chosen for consumer in _consumers(parts, one, give_up)]
    return [*consumers, DeadQueueConsumer(dead_queue(parts.service), parts.transport, give_up)]


def _consumers(parts: Parts, subscription: Subscription, give_up: GiveUp) -> Iterator[Consumer]:
    settings, of = parts.settings, subscription.of
    for queue in subscription.queues:
        if isinstance(of, Projection):
            yield ProjectionConsumer(
                queue.name,
                _projector(parts, of, queue.name),
                parts.transport,
                parts.read_store,
                give_up,
                prefetch=settings.prefetch,
                batch=settings.batch,
            )
        else:
            yield HandlerConsumer(
                queue.name,
                _handler(parts, of),
                _router_of(parts, of),
                event_registry(of) if of else parts.commands,
                parts.transport,
                parts.read_store,
                give_up,
                prefetch=settings.prefetch,
                concurrency=of.concurrency if of else 16,
                replies=None if of else Replies(parts.transport, parts.dispatcher, parts.commands),
            )


def _projector(parts: Parts, projection: Projection[Any], name: str) -> Projector:
    writer = parts.read_store.writer(projection.target(), name)
    return Projector(projection, parts.event_log, parts.read_store, writer)


def _handler(parts: Parts, router: Router | None) -> Callable[[Envelope], Awaitable[object]]:
    if router is None:
        return parts.dispatcher.execute_once
    name = router.name
    return lambda envelope: parts.dispatcher.handle(name, envelope)


def _router_of(parts: Parts, router: Router | None) -> Callable[[Envelope], Router]:
    """A command's policies are those of the router that its handler is in."""
    if router is not None:
        return lambda _: router
    handler_of = parts.dispatcher.handler_of
    return lambda envelope: parts.routers[handler_of(type(envelope.message)).router]


async def _supervise(run: Callable[[], Awaitable[None]], name: str) -> None:
    """Starts again what ended by an error nobody foresaw, with growing pauses."""
    for pause in pauses(1.0, longest=10.0):
        try:
            await run()
            return
        except asyncio.CancelledError:
            if ambient.is_cancelled():
                raise
            log.error("cancelled by something it awaited; starting again", part=name)
        except Exception:
            log.exception("failed; starting again", part=name)
        await asyncio.sleep(pause)


async def _look_after(
    parts: Parts, projection: Projection[Any], is_behind: Callable[[], bool]
) -> None:
    """Sweeps at start and then as often as the settings say, and tends to parked streams.

    What is in the queues yet would all be missing to a sweep, which would apply it from the log and
    fight with the consumers over it. So it waits until they have caught up, within PATIENCE turns.
    """
    every = parts.settings.sweep_every
    projector = _projector(parts, projection, f"{parts.service}.{projection.name}.sweep")
    sweeper = Sweeper(projector, parts.event_log, parts.read_store)
    first = True
    waiting = 0.0
    try:
        while True:
            try:
                if first or await sweeper.is_due(every):
                    waiting = waiting or time.monotonic()
                    if not is_behind() or time.monotonic() - waiting > PATIENCE * every:
                        await sweeper.sweep()
                        first, waiting = False, 0.0
                await sweeper.tend()
            except (Unavailable, OutcomeUnknown) as error:
                log.warning("cannot sweep just now", part=projection.name, reason=str(error))
            await asyncio.sleep(ambient.jittered(TEND_EVERY))
    finally:
        await projector.close()

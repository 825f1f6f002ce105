"""Worker: runs a bus's subscriptions in this process, and the relay beside them.

Its life: declare → consume, relay and sweep → stop taking → finish and settle → leave.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from bus.assembly.runtime import HasParts, Parts, Subscription, event_registry
from bus.common.tasks import end, together
from bus.continuity.upkeep import Upkeep
from bus.declare.router import Router
from bus.delivery.consumer import Consumer
from bus.delivery.drain import DeadQueueConsumer
from bus.delivery.foreign_events import Keeping
from bus.delivery.handler_consumer import HandlerConsumer
from bus.delivery.projection_consumer import ProjectionConsumer
from bus.delivery.projection_runner import Keeper
from bus.delivery.replies import Replies
from bus.delivery.sentinel import Sentinel
from bus.delivery.supervisor import Roster
from bus.delivery.trust import Trust
from bus.errors import ConfigurationError
from bus.failures.give_up import GiveUp
from bus.following.monitor import Following
from bus.following.protocol import Asking
from bus.following.receiver import HistoryConsumer
from bus.following.sender import ReplayConsumer
from bus.lifecycle.entering import Entered
from bus.messages import Envelope
from bus.observe.health import Check
from bus.observe.health_server import HealthServer
from bus.observe.log import Logger
from bus.observe.loop_watch import LoopWatch
from bus.read.projection import Projection
from bus.recovery.losses import Losses, Resending
from bus.transports.topology import dead_queue
from bus.write.relay import Relay

PROJECTIONS_SHARE = 0.2

Run = Callable[[], Awaitable[None]]

log = Logger("bus.worker")


class Worker:
    """Consumes the queues of a bus's subscriptions while it is entered.

        async with build(settings) as bus, Worker(bus):
            ...

    `only` names the subscriptions to run (projections, routers, "commands"), or single partitions
    of a projection ("balances.0of4"); all by default. The bus must be open by then, in the same
    event loop. Any number of workers may run; a projection's queue has one active consumer, the
    first that came, so a worker of all partitions keeps all of them. One that is entered several
    times in a loop works there once, until it was left as often.
    """

    def __init__(self, bus: HasParts, *, only: Collection[str] = ()) -> None:
        if isinstance(only, str):
            raise ConfigurationError(
                f"Worker(only={only!r}): only= is a list of names; write only=[{only!r}]"
            )
        self._bus = bus
        self._only = frozenset(only)
        _chosen(bus.parts, self._only)
        self._shifts = Entered(self._shift)

    async def __aenter__(self) -> Self:
        await self._shifts.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._shifts.leave()

    async def stop(self) -> None:
        """Takes nothing more, finishes and settles what is at hand, within `stop_within` seconds.

        Handlers end before projections: one may be waiting for a projection of this very worker.
        What could not be finished is delivered again.
        """
        if (shift := self._shifts.here()) is not None:
            await shift.stop()

    @asynccontextmanager
    async def _shift(self) -> AsyncGenerator["_Shift", None]:
        parts = self._bus.parts.usable()
        shift = _Shift(parts, self._only)
        await shift.begin()
        parts.state.guests.append(shift.stop)
        try:
            yield shift
        finally:
            parts.state.guests.remove(shift.stop)
            await shift.stop()


class _Shift:
    """A worker at work, in one event loop."""

    def __init__(self, parts: Parts, only: frozenset[str]) -> None:
        self._parts = parts
        self._only = only
        settings = parts.settings
        self._server = HealthServer(parts.checkup, settings.health_host, settings.health_port)
        self._roster = Roster(parts.transport, parts.checkup, parts.loops)
        self._others: list[asyncio.Task[None]] = []
        self._checks: list[Check] = []
        self._stopping = False
        self._has_left = False

    async def begin(self) -> None:
        parts = self._parts
        chosen = _chosen(parts, self._only)
        give_up, trust = GiveUp(parts), Trust(parts)
        projections = [one.of for one in chosen if isinstance(one.of, Projection)]
        keepers = [self._keeper(one, give_up, trust) for one in projections]
        await together(*(keeper.begin() for keeper in keepers))
        if parts.settings.health_port:
            await self._server.start()
        for consumer in _handler_consumers(parts, chosen, give_up, trust):
            self._roster.start(consumer)
        for keeper in keepers:
            keeper.start()
        relay = Relay(parts.event_log, parts.publisher, parts.read_store, loops=parts.loops)
        running = [
            ("relay", relay.run),
            *((k.name, k.run) for k in keepers),
            *self._follow(give_up),
            *self._watches(trust, [one.name for one in chosen]),
        ]
        self._others = [parts.loops.start(run, name) for name, run in running]
        log.info("worker started", service=parts.service, subscriptions=[s.name for s in chosen])

    def _keeper(self, projection: Projection[Any], give_up: GiveUp, trust: Trust) -> Keeper:
        name = projection.name
        some = {one.removeprefix(f"{name}.") for one in self._only if one.startswith(f"{name}.")}
        partitions = frozenset() if name in self._only else some
        return Keeper(self._parts, projection, self._roster, give_up, trust, partitions)

    def _follow(self, give_up: GiveUp) -> list[tuple[str, Run]]:
        """Takes in the history of other services, where any is followed, and asks for it."""
        parts = self._parts
        if parts.followed is None:
            return []
        owners = parts.history.owners
        asking = Asking(parts.transport, parts.service, owners, parts.signing)
        keeping = Keeping(parts.followed, owners, give_up)
        self._roster.start(HistoryConsumer(parts, parts.followed, keeping, asking, give_up))
        return [("following", Following(parts, asking).run)]

    def _watches(self, trust: Trust, chosen: Sequence[str]) -> list[tuple[str, Run]]:
        """What looks after this worker itself; health asks the same."""
        parts = self._parts
        every = parts.settings.sentinel_every
        sentinel = Sentinel(self._roster.consumers, parts.transport, every=every, loops=parts.loops)
        loop = LoopWatch()
        self._checks = [Check("worker", self._is_stopping, "ready"), loop.check]
        self._checks += [sentinel.check, sentinel.arrivals]
        upkeep = Upkeep(
            parts.transport,
            lambda: parts.projected_topology,
            every=parts.settings.sweep_every,
            part="queues of projections",
        )
        resending = Resending(parts, Losses(parts), chosen)
        kinds = DeadQueueConsumer | HistoryConsumer
        told = [one.check for one in self._roster.consumers if isinstance(one, kinds)]
        watched = [Check("events", trust.problem), Check("releases", self._is_waiting)]
        self._checks += [upkeep.check, resending.check, *told, *watched]
        parts.checkup.add(self._checks)
        return [
            ("sentinel", sentinel.run),
            ("event loop", loop.run),
            ("upkeep", upkeep.run),
            ("lost queues", resending.run),
        ]

    async def _is_waiting(self) -> str | None:
        handlers = [one for one in self._roster.consumers if isinstance(one, HandlerConsumer)]
        waiting = [f"{name} ({one.queue})" for one in handlers for name in one.waiting.names]
        if not waiting:
            return None
        return f"messages wait for a release of the code that handles them: {', '.join(waiting)}"

    async def _is_stopping(self) -> str | None:
        return "it is stopping" if self._stopping else None

    async def stop(self) -> None:
        """As `Worker.stop`."""
        if self._has_left:
            return
        within = self._parts.settings.stop_within
        deadline = time.monotonic() + within
        self._stopping = True
        for task in self._others:
            task.cancel()
        consumers = self._roster.consumers
        projections = [one for one in consumers if isinstance(one, ProjectionConsumer)]
        others = [one for one in consumers if one not in projections]
        try:
            await self._roster.finish(others, deadline - within * PROJECTIONS_SHARE)
            await self._roster.finish(projections, deadline)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Ends what still runs, also where the stopping itself was cancelled."""
        others, self._others = self._others, []
        checks, self._checks = self._checks, []
        self._parts.checkup.remove(checks)
        try:
            await end(others)
        finally:
            unfinished = await self._roster.leave()
            await self._server.close()
            self._has_left = True
        log.info("worker stopped", unfinished=unfinished)


def _chosen(parts: Parts, only: frozenset[str]) -> list[Subscription]:
    """The subscriptions that are named, whole or by a partition. Raises: ConfigurationError."""
    if not only:
        return list(parts.declared)
    known = {one.name: {one.name, *_partitions(one)} for one in parts.declared}
    if unknown := sorted(only.difference(*known.values())):
        raise ConfigurationError(
            f"only={', '.join(map(repr, unknown))}: service {parts.service!r} has no subscription "
            f"of that name; it has {', '.join(known)} (commands, its projections, and the routers "
            f"that handle events)"
        )
    return [one for one in parts.declared if known[one.name] & only]


def _partitions(one: Subscription) -> list[str]:
    """What a projection's partitions are called."""
    count = one.of.partitions if isinstance(one.of, Projection) else 1
    return [f"{one.name}.{number}of{count}" for number in range(count)] if count > 1 else []


def _handler_consumers(
    parts: Parts, chosen: Sequence[Subscription], give_up: GiveUp, trust: Trust
) -> Iterator[Consumer]:
    settings = parts.settings
    for one in chosen:
        if not isinstance(one.of, Projection):
            (queue,) = one.queues
            yield HandlerConsumer(
                queue.name,
                _handler(parts, one.of),
                _router_of(parts, one.of),
                event_registry(one.of) if one.of else parts.commands,
                parts.transport,
                parts.read_store,
                give_up,
                prefetch=settings.prefetch,
                concurrency=one.of.concurrency if one.of else 16,
                replies=_replies(parts) if one.of is None else None,
                trust=trust if one.of else None,
                vouch=parts.continuity.vouch if one.of else None,
                release_within=settings.release_within,
            )
    counting = [
        queue.name
        for one in parts.declared
        if not isinstance(one.of, Projection)
        for queue in one.queues
    ]
    yield DeadQueueConsumer(
        dead_queue(parts.service), parts.transport, give_up, trust, counting=counting
    )
    yield ReplayConsumer(parts.service, parts.event_log, parts.transport, parts.read_store, give_up)


def _replies(parts: Parts) -> Replies:
    return Replies(parts.transport, parts.dispatcher, parts.commands)


def _handler(parts: Parts, router: Router | None) -> Callable[[Envelope], Awaitable[object]]:
    if router is None:
        return parts.dispatcher.carry_out
    name = router.name

    async def handle(envelope: Envelope) -> None:
        parts.continuity.check("handled")
        await parts.dispatcher.handle(name, envelope)

    return handle


def _router_of(parts: Parts, router: Router | None) -> Callable[[Envelope], Router]:
    """A command's policies are those of the router that its handler is in."""
    if router is not None:
        return lambda _: router
    handler_of = parts.dispatcher.handler_of
    return lambda envelope: parts.routers[handler_of(type(envelope.message)).router]

"""Worker: runs a bus's subscriptions in this process, and the relay beside them.

Its life: declare → consume, relay and sweep → stop taking → finish and settle → leave.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from bus.assembly.runtime import HasRuntime, Runtime, Subscription, event_registry
from bus.common.tasks import end, together
from bus.continuity.upkeep import Upkeep
from bus.declare.router import Router
from bus.delivery.consumer import Consumer
from bus.delivery.drain import DeadQueueConsumer
from bus.delivery.foreign_events import ForeignEvents
from bus.delivery.handler_consumer import HandlerConsumer
from bus.delivery.projection_consumer import ProjectionConsumer
from bus.delivery.projection_runner import ProjectionRunner
from bus.delivery.replies import ReplySender
from bus.delivery.sentinel import Sentinel
from bus.delivery.supervisor import Supervisor
from bus.delivery.trust import Trust
from bus.errors import ConfigurationError
from bus.failures.give_up import GiveUp
from bus.following.monitor import HistoryMonitor
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

    def __init__(self, bus: HasRuntime, *, only: Collection[str] = ()) -> None:
        if isinstance(only, str):
            raise ConfigurationError(
                f"Worker(only={only!r}): only= is a list of names; write only=[{only!r}]"
            )
        self._bus = bus
        self._only = frozenset(only)
        _chosen(bus.runtime, self._only)
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
        runtime = self._bus.runtime.usable()
        shift = _Shift(runtime, self._only)
        await shift.begin()
        runtime.state.guests.append(shift.stop)
        try:
            yield shift
        finally:
            runtime.state.guests.remove(shift.stop)
            await shift.stop()


class _Shift:
    """A worker at work, in one event loop."""

    def __init__(self, runtime: Runtime, only: frozenset[str]) -> None:
        self._runtime = runtime
        self._only = only
        settings = runtime.settings
        self._server = HealthServer(runtime.checkup, settings.health_host, settings.health_port)
        self._supervisor = Supervisor(runtime.transport, runtime.checkup, runtime.loops)
        self._others: list[asyncio.Task[None]] = []
        self._checks: list[Check] = []
        self._stopping = False
        self._has_left = False

    async def begin(self) -> None:
        runtime = self._runtime
        chosen = _chosen(runtime, self._only)
        give_up, trust = GiveUp(runtime), Trust(runtime)
        projections = [one.of for one in chosen if isinstance(one.of, Projection)]
        runners = [self._runner(one, give_up, trust) for one in projections]
        await together(*(runner.begin() for runner in runners))
        if runtime.settings.health_port:
            await self._server.start()
        for consumer in _handler_consumers(runtime, chosen, give_up, trust):
            self._supervisor.start(consumer)
        for runner in runners:
            runner.start()
        relay = Relay(runtime.event_log, runtime.publisher, runtime.read_store, loops=runtime.loops)
        running = [
            ("relay", relay.run),
            *((k.name, k.run) for k in runners),
            *self._follow(give_up),
            *self._watches(trust, [one.name for one in chosen]),
        ]
        self._others = [runtime.loops.start(run, name) for name, run in running]
        log.info("worker started", service=runtime.service, subscriptions=[s.name for s in chosen])

    def _runner(
        self, projection: Projection[Any], give_up: GiveUp, trust: Trust
    ) -> ProjectionRunner:
        name = projection.name
        some = {one.removeprefix(f"{name}.") for one in self._only if one.startswith(f"{name}.")}
        partitions = frozenset() if name in self._only else some
        return ProjectionRunner(
            self._runtime, projection, self._supervisor, give_up, trust, partitions
        )

    def _follow(self, give_up: GiveUp) -> list[tuple[str, Run]]:
        """Takes in the history of other services, where any is followed, and asks for it."""
        runtime = self._runtime
        if runtime.followed is None:
            return []
        owners = runtime.history.owners
        asking = Asking(runtime.transport, runtime.service, owners, runtime.signing)
        foreign_events = ForeignEvents(runtime.followed, owners, give_up)
        self._supervisor.start(
            HistoryConsumer(runtime, runtime.followed, foreign_events, asking, give_up)
        )
        return [("following", HistoryMonitor(runtime, asking).run)]

    def _watches(self, trust: Trust, chosen: Sequence[str]) -> list[tuple[str, Run]]:
        """What looks after this worker itself; health asks the same."""
        runtime = self._runtime
        every = runtime.settings.sentinel_every
        sentinel = Sentinel(
            self._supervisor.consumers, runtime.transport, every=every, loops=runtime.loops
        )
        loop = LoopWatch()
        self._checks = [Check("worker", self._is_stopping, "ready"), loop.check]
        self._checks += [sentinel.check, sentinel.arrivals]
        upkeep = Upkeep(
            runtime.transport,
            lambda: runtime.projected_topology,
            every=runtime.settings.sweep_every,
            part="queues of projections",
        )
        resending = Resending(runtime, Losses(runtime), chosen)
        kinds = DeadQueueConsumer | HistoryConsumer
        told = [one.check for one in self._supervisor.consumers if isinstance(one, kinds)]
        watched = [Check("events", trust.problem), Check("releases", self._is_waiting)]
        self._checks += [upkeep.check, resending.check, *told, *watched]
        runtime.checkup.add(self._checks)
        return [
            ("sentinel", sentinel.run),
            ("event loop", loop.run),
            ("upkeep", upkeep.run),
            ("lost queues", resending.run),
        ]

    async def _is_waiting(self) -> str | None:
        handlers = [one for one in self._supervisor.consumers if isinstance(one, HandlerConsumer)]
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
        within = self._runtime.settings.stop_within
        deadline = time.monotonic() + within
        self._stopping = True
        for task in self._others:
            task.cancel()
        consumers = self._supervisor.consumers
        projections = [one for one in consumers if isinstance(one, ProjectionConsumer)]
        others = [one for one in consumers if one not in projections]
        try:
            await self._supervisor.finish(others, deadline - within * PROJECTIONS_SHARE)
            await self._supervisor.finish(projections, deadline)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Ends what still runs, also where the stopping itself was cancelled."""
        others, self._others = self._others, []
        checks, self._checks = self._checks, []
        self._runtime.checkup.remove(checks)
        try:
            await end(others)
        finally:
            unfinished = await self._supervisor.leave()
            await self._server.close()
            self._has_left = True
        log.info("worker stopped", unfinished=unfinished)


def _chosen(runtime: Runtime, only: frozenset[str]) -> list[Subscription]:
    """The subscriptions that are named, whole or by a partition. Raises: ConfigurationError."""
    if not only:
        return list(runtime.declared)
    known = {one.name: {one.name, *_partitions(one)} for one in runtime.declared}
    if unknown := sorted(only.difference(*known.values())):
        raise ConfigurationError(
            f"only={', '.join(map(repr, unknown))}: service {runtime.service!r} has no "
            f"subscription of that name; it has {', '.join(known)} (commands, its projections, and "
            f"the routers that handle events)"
        )
    return [one for one in runtime.declared if known[one.name] & only]


def _partitions(one: Subscription) -> list[str]:
    """What a projection's partitions are called."""
    count = one.of.partitions if isinstance(one.of, Projection) else 1
    return [f"{one.name}.{number}of{count}" for number in range(count)] if count > 1 else []


def _handler_consumers(
    runtime: Runtime, chosen: Sequence[Subscription], give_up: GiveUp, trust: Trust
) -> Iterator[Consumer]:
    settings = runtime.settings
    for one in chosen:
        if not isinstance(one.of, Projection):
            (queue,) = one.queues
            yield HandlerConsumer(
                queue.name,
                _handler(runtime, one.of),
                _router_of(runtime, one.of),
                event_registry(one.of) if one.of else runtime.commands,
                runtime.transport,
                runtime.read_store,
                give_up,
                prefetch=settings.prefetch,
                concurrency=one.of.concurrency if one.of else 16,
                replies=_replies(runtime) if one.of is None else None,
                trust=trust if one.of else None,
                vouch=runtime.continuity.vouch if one.of else None,
                release_within=settings.release_within,
            )
    counting = [
        queue.name
        for one in runtime.declared
        if not isinstance(one.of, Projection)
        for queue in one.queues
    ]
    yield DeadQueueConsumer(
        dead_queue(runtime.service), runtime.transport, give_up, trust, counting=counting
    )
    yield ReplayConsumer(
        runtime.service, runtime.event_log, runtime.transport, runtime.read_store, give_up
    )


def _replies(runtime: Runtime) -> ReplySender:
    return ReplySender(runtime.transport, runtime.dispatcher, runtime.commands)


def _handler(runtime: Runtime, router: Router | None) -> Callable[[Envelope], Awaitable[object]]:
    if router is None:
        return runtime.dispatcher.carry_out
    name = router.name

    async def handle(envelope: Envelope) -> None:
        runtime.continuity.check("handled")
        await runtime.dispatcher.handle(name, envelope)

    return handle


def _router_of(runtime: Runtime, router: Router | None) -> Callable[[Envelope], Router]:
    """A command's policies are those of the router that its handler is in."""
    if router is not None:
        return lambda _: router
    handler_of = runtime.dispatcher.handler_of
    return lambda envelope: runtime.routers[handler_of(type(envelope.message)).router]

"""What a worker does with the queues of its subscriptions, as duties."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from bus.assembly.runtime import Runtime, Subscription, event_registry
from bus.declare.router import Router
from bus.delivery.consumer import Consumers
from bus.delivery.drain import DeadQueueConsumer
from bus.delivery.handler_consumer import HandlerConsumer
from bus.delivery.projection_runner import ProjectionRunner
from bus.delivery.replies import ReplySender
from bus.delivery.sentinel import Sentinel
from bus.delivery.trust import Trust
from bus.errors import ConfigurationError
from bus.failures.give_up import GiveUp
from bus.lifecycle.duty import Duty
from bus.lifecycle.loop_watch import LoopWatch
from bus.messages import Envelope
from bus.observe.health import Check
from bus.read.projection import Projection
from bus.transports.topology import dead_queue


class Work(NamedTuple):
    """What the duties of one worker share. `only` may name partitions too; empty means all."""

    runtime: Runtime
    subscriptions: Sequence[Subscription]
    only: frozenset[str]
    consumers: Consumers
    give_up: GiveUp
    trust: Trust

    @property
    def names(self) -> list[str]:
        """The names of the subscriptions."""
        return [subscription.name for subscription in self.subscriptions]


def handling(work: Work) -> Iterator[Duty]:
    """Yields the duties that run handlers of commands and events, and the one that makes dead
    letters of what RabbitMQ gave up."""
    for subscription in work.subscriptions:
        if not isinstance(subscription.of, Projection):
            yield work.consumers.duty(_handler_consumer(work, subscription, subscription.of))
    runtime = work.runtime
    counting = [
        queue.name
        for subscription in runtime.declared
        if not isinstance(subscription.of, Projection)
        for queue in subscription.queues
    ]
    dead = dead_queue(runtime.service)
    yield work.consumers.duty(
        DeadQueueConsumer(dead, runtime.transport, work.give_up, work.trust, counting=counting)
    )


def projecting(work: Work) -> Iterator[Duty]:
    """Yields the duties that run projections."""
    for subscription in work.subscriptions:
        if isinstance(subscription.of, Projection):
            yield _runner(work, subscription.of).duty


def watching(work: Work) -> Iterator[Duty]:
    """Yields the duties that watch this worker itself."""
    runtime = work.runtime
    loop = LoopWatch(signals=runtime.signals)
    sentinel = Sentinel(
        work.consumers,
        runtime.transport,
        every=runtime.settings.sentinel_every,
        loops=runtime.loops,
    )
    arriving = [sentinel.check, sentinel.arrivals, Check("events", work.trust.problem)]
    waiting = Check("releases", partial(_waiting, work.consumers))
    yield Duty("sentinel", sentinel.run, checks=[*arriving, waiting])
    yield Duty("event loop", loop.run, checks=[loop.check])


def chosen(runtime: Runtime, only: frozenset[str]) -> list[Subscription]:
    """Returns the subscriptions that are named, whole or by a partition; all if none are.

    Raises: ConfigurationError for a name that the service does not have.
    """
    if not only:
        return list(runtime.declared)
    known = {found.name: {found.name, *_partitions(found)} for found in runtime.declared}
    if unknown := sorted(only.difference(*known.values())):
        raise ConfigurationError(
            f"only={', '.join(map(repr, unknown))}: service {runtime.service!r} has no "
            f"subscription of that name; it has {', '.join(known)} (commands, its projections, and "
            f"the routers that handle events)"
        )
    return [found for found in runtime.declared if known[found.name] & only]


async def _waiting(consumers: Consumers) -> str | None:
    """Says which messages wait for another release of the code, in any queue."""
    handling = [consumer for consumer in consumers if isinstance(consumer, HandlerConsumer)]
    names = [f"{name} ({each.queue})" for each in handling for name in each.waiting.names]
    if not names:
        return None
    return f"messages wait for a release of the code that handles them: {', '.join(names)}"


def _partitions(subscription: Subscription) -> list[str]:
    """Returns the names of a projection's partitions, if there are several."""
    name, of = subscription.name, subscription.of
    count = of.partitions if isinstance(of, Projection) else 1
    return [f"{name}.{number}of{count}" for number in range(count)] if count > 1 else []


def _runner(work: Work, projection: Projection[Any]) -> ProjectionRunner:
    name, only = projection.name, work.only
    some = {part.removeprefix(f"{name}.") for part in only if part.startswith(f"{name}.")}
    partitions = frozenset() if name in only else some
    return ProjectionRunner(
        work.runtime, projection, work.consumers, work.give_up, work.trust, partitions
    )


def _handler_consumer(
    work: Work, subscription: Subscription, router: Router | None
) -> HandlerConsumer:
    """Returns the consumer of a router's events, or of the service's commands if it is None."""
    runtime, settings = work.runtime, work.runtime.settings
    (queue,) = subscription.queues
    replies = ReplySender(runtime.transport, runtime.dispatcher, runtime.commands)
    return HandlerConsumer(
        queue.name,
        _handler(runtime, router),
        _router_of(runtime, router),
        event_registry(router) if router else runtime.commands,
        runtime.transport,
        runtime.control,
        work.give_up,
        prefetch=settings.prefetch,
        concurrency=router.concurrency if router else 16,
        replies=None if router else replies,
        trust=work.trust if router else None,
        vouch=runtime.continuity.vouch if router else None,
        release_within=settings.release_within,
    )


def _handler(runtime: Runtime, router: Router | None) -> Callable[[Envelope], Awaitable[object]]:
    if router is None:
        return runtime.dispatcher.carry_out
    name = router.name

    async def handle(envelope: Envelope) -> None:
        runtime.continuity.check("handled")
        await runtime.dispatcher.handle(name, envelope)

    return handle


def _router_of(runtime: Runtime, router: Router | None) -> Callable[[Envelope], Router]:
    """Returns what finds a message's policies: a command's are those of its handler's router."""
    if router is not None:
        return lambda _: router
    handler_of = runtime.dispatcher.handler_of
    return lambda envelope: runtime.routers[handler_of(type(envelope.message)).router]

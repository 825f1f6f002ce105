"""At rest: whether anything remains to be published, delivered, handled or projected."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, cast

from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.data.ids import category_of
from bus.read.foreign import History
from bus.read.projection import Projection
from bus.stores.collections import Target
from bus.testing.simulation.broken import HastyBroker
from bus.testing.simulation.feeds import MemoryFeed
from bus.testing.simulation.ground import Ground
from bus.testing.simulation.process import Process

HOPELESS = 3
"""Failures in a row after which a stream is no longer waited for."""


LATER_AGAIN = 300
"""How often a message may ask for a later try before it counts as never coming to rest."""


class Unrest(NamedTuple):
    """Describes what is not at rest. If all of it waits for its time, `later` is the number of
    seconds until something moves."""

    reason: str
    later: float | None = None


class Rest:
    """Looks at all services at the same moment, because stores in memory answer at once."""

    def __init__(self, ground: Ground, broker: HastyBroker, processes: Sequence[Process]) -> None:
        self.processes = processes
        self._ground = ground
        self._broker = broker

    def begin(self) -> None:
        """Resets the counts of how often messages asked for later tries."""
        self._broker.returned.clear()

    async def unrest(self) -> Unrest | None:
        """Returns what is not at rest; None if everything is.

        Raises: AssertionError for a stream that a projection cannot apply, and for a message that
        keeps asking for a later try.
        """
        services = [(await process.opened()).runtime for process in self.processes]
        for runtime in services:
            if reason := await self._unpublished(runtime) or self._unread(runtime):
                return Unrest(reason)
        if unrest := self._undelivered(services):
            return unrest
        for runtime in services:
            if reason := await self._unprojected(runtime):
                return Unrest(reason)
        return None

    async def _unpublished(self, runtime: Runtime) -> str:
        far = clock.now() + timedelta(days=365)
        pending = await self._ground.stores(runtime.service).event_log.pending(far, 10)
        return f"not confirmed: {', '.join(commit.id for commit in pending)}" if pending else ""

    def _unread(self, runtime: Runtime) -> str:
        for category, feed in runtime.foreign.feeds.items():
            owner = runtime.foreign.owners[category]
            if left := cast(MemoryFeed, feed).left(owner):
                return f"{runtime.service!r} is fed by the {feed.name}: commits to be read: {left}"
        return ""

    def _undelivered(self, services: Sequence[Runtime]) -> Unrest | None:
        queues = (queue.name for runtime in services for queue in runtime.topology.queues)
        waiting = {name: len(self._broker.queue(name).ready) for name in queues}
        for inbox in (inbox for process in self.processes for inbox in process.inboxes):
            waiting[inbox.queue] = waiting.get(inbox.queue, 0) + inbox.unsettled
        on_their_way = any(waiting.values())
        waiting["delays"] = self._broker.delayed
        shown = ", ".join(f"{count} in {name}" for name, count in waiting.items() if count)
        if not shown:
            return None
        self._check_returned()
        later = None if on_their_way else self._broker.until_next()
        return Unrest(f"deliveries not settled: {shown}", later)

    def _check_returned(self) -> None:
        for (queue, name, id), times in self._broker.returned.items():
            if times >= LATER_AGAIN:
                raise AssertionError(
                    f"not at rest: the handler in {queue} asked for a later try of {name} ({id}) "
                    f"{times} times since settle() began; let it stop raising Retry(...), or await "
                    f"what the test is about instead of settle()"
                )

    async def _unprojected(self, runtime: Runtime) -> str:
        for subscription in runtime.subscriptions:
            of, name = subscription.of, subscription.name
            if isinstance(of, Projection) and (behind := await self._behind(runtime, of)):
                return f"projection {name!r} of {runtime.service!r} is behind: {behind}"
        return ""

    async def _behind(self, runtime: Runtime, projection: Projection[Any]) -> str:
        lineage = runtime.catalogue.known(projection)
        if lineage.building:
            return await self._missing(runtime, projection) or f"{lineage.building} is being built"
        target = runtime.catalogue.target_of(projection, lineage.of(lineage.active))
        await self._check_parked(runtime, target)
        written = await self._written(runtime, projection.categories)
        stores = self._ground.stores(runtime.service)
        collections = runtime.collections if target.place else stores.collections
        reached = await collections.versions(target, list(written))
        behind = {s: v for s, v in written.items() if reached.get(s, 0) < v}
        return ", ".join(f"{s} at {reached.get(s, 0)} of {v}" for s, v in behind.items())

    async def _missing(self, runtime: Runtime, projection: Projection[Any]) -> str:
        control = self._ground.stores(runtime.service).control
        history = History(control, runtime.history.owners)
        missing = await history.missing(projection.categories)
        owners = runtime.foreign.owners
        parts = (f"{part.category!r} from {owners[part.category]!r}" for part in missing)
        return f"it waits for the history of {', '.join(parts)}" if missing else ""

    async def _written(self, runtime: Runtime, categories: Sequence[str]) -> dict[str, int]:
        """Returns the last version of each stream, from the log of the service that owns it."""
        written: dict[str, int] = {}
        for category in categories:
            owner = runtime.foreign.owners.get(category, runtime.service)
            async for commit in self._ground.stores(owner).event_log.scan([category]):
                if category_of(commit.stream) == category:
                    written[commit.stream] = max(commit.last, written.get(commit.stream, 0))
        return written

    async def _check_parked(self, runtime: Runtime, target: Target) -> None:
        for parked in await self._ground.stores(runtime.service).control.parked(target):
            if parked.tries >= HOPELESS and not parked.is_missed:
                raise AssertionError(
                    f"projection {target.projection!r} cannot apply {parked.stream} at version "
                    f"{parked.version}: {parked.error}: {parked.reason}"
                )

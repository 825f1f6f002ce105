"""At rest: whether anything is still to be published, delivered, handled or projected."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.data.ids import category_of
from bus.read.foreign import History
from bus.read.projection import Projection
from bus.stores.collections import Target
from bus.testing.simulation.broken import HastyBroker
from bus.testing.simulation.ground import Ground
from bus.testing.simulation.process import Process

HOPELESS = 3
"""After so many failures in a row a stream is not waited for."""


LATER_AGAIN = 300
"""So often a message may ask for a later try before it is said never to come to rest."""


class Unrest(NamedTuple):
    """What is not at rest, in words. `later` are the seconds until it moves again, where all of it
    waits for its time."""

    reason: str
    later: float | None = None


class Rest:
    """Looks at all services at once: the stores in memory answer without a pause."""

    def __init__(self, ground: Ground, broker: HastyBroker, processes: Sequence[Process]) -> None:
        self.processes = processes
        self._ground = ground
        self._broker = broker

    def begin(self) -> None:
        """Counts anew how often messages ask for later tries."""
        self._broker.returned.clear()

    async def unrest(self) -> Unrest | None:
        """What is not at rest; None when everything is.

        Raises: AssertionError for a stream that a projection cannot apply, and for a message that
        asks for a later try again and again.
        """
        services = [(await process.opened()).runtime for process in self.processes]
        for runtime in services:
            if reason := await self._unpublished(runtime):
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
        for one in runtime.subscriptions:
            if isinstance(one.of, Projection) and (behind := await self._behind(runtime, one.of)):
                return f"projection {one.name!r} of {runtime.service!r} is behind: {behind}"
        return ""

    async def _behind(self, runtime: Runtime, projection: Projection[Any]) -> str:
        lineage = runtime.catalogue.known(projection)
        if lineage.building:
            return await self._missing(runtime, projection) or f"{lineage.building} is being built"
        target = runtime.catalogue.target_of(projection, lineage.of(lineage.active))
        await self._check_parked(runtime, target)
        written = await self._written(runtime, projection.categories)
        store = self._ground.stores(runtime.service).read_store
        reached = await store.versions(target, list(written))
        behind = {s: v for s, v in written.items() if reached.get(s, 0) < v}
        return ", ".join(f"{s} at {reached.get(s, 0)} of {v}" for s, v in behind.items())

    async def _missing(self, runtime: Runtime, projection: Projection[Any]) -> str:
        store = self._ground.stores(runtime.service).read_store
        history = History(store, runtime.history.owners)
        missing = await history.missing(projection.categories)
        told = (f"{runtime.foreign.owners[one.category]!r} of {one.category}" for one in missing)
        return f"it waits for the history that is told by {', '.join(told)}" if missing else ""

    async def _written(self, runtime: Runtime, categories: Sequence[str]) -> dict[str, int]:
        """The last version of each stream, by the log of the service that owns it."""
        written: dict[str, int] = {}
        for category in categories:
            owner = runtime.foreign.owners.get(category, runtime.service)
            async for commit in self._ground.stores(owner).event_log.scan([category]):
                if category_of(commit.stream) == category:
                    written[commit.stream] = max(commit.last, written.get(commit.stream, 0))
        return written

    async def _check_parked(self, runtime: Runtime, target: Target) -> None:
        for parked in await self._ground.stores(runtime.service).read_store.parked(target):
            if parked.tries >= HOPELESS and not parked.is_missed:
                raise AssertionError(
                    f"projection {target.projection!r} cannot apply {parked.stream} at version "
                    f"{parked.version}: {parked.error}: {parked.reason}"
                )

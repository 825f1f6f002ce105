"""At rest: whether anything is still to be published, delivered, handled or projected."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bus import ambient
from bus.messages import category_of
from bus.parts import Parts
from bus.read.history import History
from bus.read.projection import Projection
from bus.stores.base import Target
from bus.testing.broken import HastyBroker
from bus.testing.ground import Ground
from bus.testing.process import Process

HOPELESS = 3
"""After so many failures in a row a stream is not waited for."""


class Rest:
    """Looks at all services at once: the stores in memory answer without a pause."""

    def __init__(self, ground: Ground, broker: HastyBroker, processes: Sequence[Process]) -> None:
        self.processes = processes
        self._ground = ground
        self._broker = broker

    async def unrest(self) -> str:
        """What is not at rest, in words; empty when everything is.

        Raises: AssertionError for a stream that a projection cannot apply.
        """
        services = [(await process.opened()).parts for process in self.processes]
        for parts in services:
            if reason := await self._unpublished(parts):
                return reason
        if reason := self._undelivered(services):
            return reason
        for parts in services:
            if reason := await self._unprojected(parts):
                return reason
        return ""

    async def _unpublished(self, parts: Parts) -> str:
        far = ambient.now() + timedelta(days=365)
        pending = await self._ground.stores(parts.service).event_log.pending(far, 10)
        return f"not confirmed: {', '.join(commit.id for commit in pending)}" if pending else ""

    def _undelivered(self, services: Sequence[Parts]) -> str:
        queues = (queue.name for parts in services for queue in parts.topology.queues)
        waiting = {name: len(self._broker.queue(name).ready) for name in queues}
        for inbox in (inbox for process in self.processes for inbox in process.inboxes):
            waiting[inbox.queue] = waiting.get(inbox.queue, 0) + inbox.unsettled
        waiting["delays"] = self._broker.delayed
        shown = ", ".join(f"{count} in {name}" for name, count in waiting.items() if count)
        return f"deliveries not settled: {shown}" if shown else ""

    async def _unprojected(self, parts: Parts) -> str:
        for one in parts.subscriptions:
            if isinstance(one.of, Projection) and (behind := await self._behind(parts, one.of)):
                return f"projection {one.name!r} of {parts.service!r} is behind: {behind}"
        return ""

    async def _behind(self, parts: Parts, projection: Projection[Any]) -> str:
        lineage = parts.catalogue.known(projection)
        if lineage.building:
            return await self._missing(parts, projection) or f"{lineage.building} is being built"
        target = parts.catalogue.target_of(projection, lineage.of(lineage.active))
        await self._check_parked(parts, target)
        written = await self._written(parts, projection.categories)
        store = self._ground.stores(parts.service).read_store
        reached = await store.versions(target, list(written))
        behind = {s: v for s, v in written.items() if reached.get(s, 0) < v}
        return ", ".join(f"{s} at {reached.get(s, 0)} of {v}" for s, v in behind.items())

    async def _missing(self, parts: Parts, projection: Projection[Any]) -> str:
        store = self._ground.stores(parts.service).read_store
        history = History(store, parts.history.owners)
        missing = await history.missing(projection.categories)
        told = (f"{parts.foreign.owners[one.category]!r} of {one.category}" for one in missing)
        return f"it waits for the history that is told by {', '.join(told)}" if missing else ""

    async def _written(self, parts: Parts, categories: Sequence[str]) -> dict[str, int]:
        """The last version of each stream, by the log of the service that owns it."""
        written: dict[str, int] = {}
        for category in categories:
            owner = parts.foreign.owners.get(category, parts.service)
            async for commit in self._ground.stores(owner).event_log.scan([category]):
                if category_of(commit.stream) == category:
                    written[commit.stream] = max(commit.last, written.get(commit.stream, 0))
        return written

    async def _check_parked(self, parts: Parts, target: Target) -> None:
        for parked in await self._ground.stores(parts.service).read_store.parked(target):
            if parked.tries >= HOPELESS and not parked.is_missed:
                raise AssertionError(
                    f"projection {target.projection!r} cannot apply {parked.stream} at version "
                    f"{parked.version}: {parked.error}: {parked.reason}"
                )

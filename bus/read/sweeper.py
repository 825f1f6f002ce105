"""Sweeper: applies what a projection's consumers never received.

A delivery that never came (a queue deleted by hand, a broker lost for good) only delays: the log
shows what is missing.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bus.common import clock
from bus.common.batches import gathered
from bus.observe.signals import Swept
from bus.observe.tracer import Batch
from bus.read.projector import Projector
from bus.stores.collections import Collections
from bus.stores.control import Control
from bus.stores.event_log import Commit, ReadableLog

TEND_LEASE = 10.0
SWEEP_BATCH = 500
SWEEP_GRACE = timedelta(seconds=5)
SWEEP_OVERLAP = timedelta(minutes=2)


class Sweeper:
    """Applies what never arrived, and tries parked streams again."""

    def __init__(
        self,
        projector: Projector,
        event_log: ReadableLog,
        collections: Collections,
        control: Control,
    ) -> None:
        self._projector = projector
        self._log = event_log
        self._collections = collections
        self._control = control
        self._owner = clock.new_id()
        self._again: list[str] = []
        self._held_at: float | None = None
        """When it swept last, if its mark was held back."""

    async def tend(self, *, all: bool = False) -> bool:
        """Tries again the parked streams that are due, or all; returns whether any was applied.
        Call it every few seconds.

        Consumers drop a stream's events as long as they believe it parked, so a stream that was
        applied is applied once more the next time.
        """
        await self._projector.refresh()
        again, self._again = self._again, []
        await self._projector.apply_streams(again)
        if all or (self._projector.has_due and await self._leads()):
            self._again = await self._projector.retry_parked(all=all)
        return bool(self._again)

    async def _leads(self) -> bool:
        lease = f"parked/{self._projector.target.collection}"
        return await self._control.lease(lease, self._owner, TEND_LEASE)

    async def is_due(self, every: float) -> bool:
        """Returns whether nobody has swept for `every` seconds. A sweeper's own last one counts
        even if its mark was held back, because a commit is being stored since long before."""
        if self._held_at is not None and clock.source.elapsed() < self._held_at + every:
            return False
        swept = await self._control.swept(self._projector.target)
        return swept is None or abs(self._control.now() - swept) > timedelta(seconds=every)

    async def sweep(self) -> int:
        """Applies what is missing of the commits since the last sweep; returns how many events."""
        target, began = self._projector.target, time.time()
        now = self._control.now()
        until = min(now, await self._log.settled()) - SWEEP_GRACE
        since = await self._control.swept(target)
        await self._projector.refresh()
        found = 0
        latest = until
        if since and since > until + SWEEP_OVERLAP:  # the clock was set back: scan all
            since, latest = None, datetime.max.replace(tzinfo=UTC)
        categories = self._projector.projection.categories
        scans = [self._log.arrived(categories, since and since - SWEEP_OVERLAP, latest)]
        if latest == until:  # commits of a clock that runs ahead would wait for their time
            scans.append(self._log.arrived(categories, now + SWEEP_OVERLAP))
        for arrived in scans:
            async for some in gathered(arrived, SWEEP_BATCH):
                found += await self._apply_missing(some)
        await self._control.mark_swept(target, until)
        self._held_at = clock.source.elapsed() if until < now - SWEEP_GRACE else None
        if found:
            signals = self._projector.signals
            signals.emit(Swept, target.projection, target.collection, missing=found)
            signals.batch(Batch("sweep", target.projection, began, contexts=(), messages=found))
        return found

    async def _apply_missing(self, commits: Sequence[Commit]) -> int:
        streams = list({commit.stream for commit in commits})
        reached = await self._collections.versions(self._projector.target, streams)
        behind = {c.stream for c in commits if c.last > reached.get(c.stream, 0)}
        return (await self._projector.apply_streams(behind)).events

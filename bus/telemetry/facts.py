"""Facts: measures the states of a service, every `BUS_FACTS_EVERY` seconds, while somebody listens.

Those of the whole service are measured by one of its workers or relays, which holds a lease. What
cannot be measured just now is left out, and what it belongs to goes on: telemetry harms nobody.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.common.exceptions import failed, outage
from bus.common.fingerprint import reason_of
from bus.data.payload import Document
from bus.delivery.duties import Work
from bus.delivery.projection_consumer import ProjectionConsumer
from bus.errors import BusError, NotBuilt
from bus.lifecycle.duty import Duty
from bus.observe.log import Logger
from bus.observe.signals import (
    AuditKnown,
    BacklogMeasured,
    BuildMeasured,
    LagMeasured,
    LettersMeasured,
    PartitionHeld,
    QueueMeasured,
    Signal,
    StatesMeasured,
)
from bus.read.lag import LagMeter
from bus.read.projection import Projection
from bus.rebuild.builder import plan_from, plan_of
from bus.rebuild.drift import audit_of
from bus.telemetry.metrics.catalogue import OTHER

LEASE = "facts"
TIMES = 3
"""The lease lasts for so many measurings."""
FIRST = 1.0
"""Seconds until a worker measures first: by then it consumes."""
HAND_OVER_WITHIN = 1.0
MOST_COUNTED = 10_000
MOST_LOOKED_AT = 2_000
"""Commits that are read, at most, to see whether a projection has them."""
MOST_GROUPS = 50
AT_ONCE = 50
"""So many queues may be asked about at once; more are spread over half the time there is."""
SHARED: tuple[type[Signal], ...] = (
    AuditKnown,
    BacklogMeasured,
    BuildMeasured,
    LagMeasured,
    LettersMeasured,
    QueueMeasured,
)

Places = dict[tuple[str, int], tuple[str, bool]]
"""By projection and partition: the queue, and whether its messages come here."""

log = Logger("bus.telemetry")


def measuring(work: Work) -> Iterator[Duty]:
    """Yields the duties that measure: the service, and this process."""
    yield Duty("facts", Facts(work.runtime).run)
    yield Duty("process", Here(work.runtime, lambda: work.consumers).run)


class Facts:
    """Measures the states of the whole service, if this process is the one that does."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._every = runtime.settings.facts_every
        self._owner = ""
        self._holds_until = 0.0
        self._meters: dict[str, LagMeter] = {}
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Measures until it is cancelled, and lets another process do it then."""
        try:
            await asyncio.sleep(min(FIRST, self._every))
            while True:
                await self._try("lease", self.measure)
                await asyncio.sleep(self._every)
        finally:
            await self._hand_over()

    async def measure(self) -> bool:
        """Measures all states once; returns False if that is not for this process to do. Raises:
        StoreUnavailable."""
        if not any(kind in self._runtime.signals.wanted for kind in SHARED):
            return False
        if not await self._leads():
            return False
        began = time.monotonic()
        failing = [part for part, step in self._steps() if not await self._try(part, step)]
        seconds = time.monotonic() - began
        self._tell(StatesMeasured, goes_on=True, seconds=seconds, failing=failing)
        return True

    async def _leads(self) -> bool:
        self._owner = self._owner or clock.new_id()
        seconds, began = TIMES * self._every, time.monotonic()
        if await self._runtime.control.lease(LEASE, self._owner, seconds):
            self._holds_until = began + seconds
            return True
        self._measures_no_more()
        return False

    def _measures_no_more(self) -> None:
        if self._holds_until:
            self._holds_until = 0.0
            self._tell(StatesMeasured, goes_on=False, seconds=0.0)

    async def _hand_over(self) -> None:
        holds = time.monotonic() < self._holds_until
        self._measures_no_more()
        if holds:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(HAND_OVER_WITHIN):
                    await self._runtime.control.lease(LEASE, self._owner, 0)

    def _steps(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        yield "backlog", self._backlog
        yield "dead letters", self._letters
        for projection in self._runtime.projections:
            yield f"projection {projection.name}", partial(self._projection, projection)
        yield "queues", self._queues

    async def _try(self, part: str, step: Callable[[], Awaitable[object]]) -> bool:
        """Takes a step; returns whether it could be taken. What it raises is logged, once until it
        does not."""
        try:
            await step()
        except BaseException as error:
            if not failed(error):
                raise
            if part not in self._failing:
                self._failing.add(part)
                self._log(part, error)
            return False
        self._failing.discard(part)
        return True

    def _log(self, part: str, error: BaseException) -> None:
        reason = reason_of(error)[:500]
        if outage(error):
            log.info("not_measured", part=part, reason=reason)
        else:
            log.error("not_measured", part=part, reason=reason, exc_info=error)

    async def _backlog(self) -> None:
        event_log = self._runtime.event_log
        commits, oldest = await event_log.backlog(MOST_COUNTED)
        seconds = max(0.0, (event_log.now() - oldest).total_seconds()) if oldest else 0.0
        self._tell(BacklogMeasured, commits=commits, seconds=seconds, more=commits >= MOST_COUNTED)

    async def _letters(self) -> None:
        groups = await self._runtime.control.dead_letter_groups()
        self._tell(LettersMeasured, groups=largest(groups))

    async def _projection(self, projection: Projection[Any]) -> None:
        with suppress(NotBuilt):
            await self._lag(projection)
        await self._build(projection)

    async def _lag(self, projection: Projection[Any]) -> None:
        runtime, name = self._runtime, projection.name
        target = await runtime.catalogue.target(projection)
        meter = self._meters.get(name)
        if meter is None or meter.target != target:
            meter = self._meters[name] = LagMeter(
                projection.categories,
                target,
                runtime.read_log,
                runtime.collections,
                runtime.control,
                most=MOST_LOOKED_AT,
            )
        lag, parked = await meter.measure(), await runtime.control.parked(target)
        self._tell(
            LagMeasured,
            name,
            target.collection,
            events=lag.events,
            seconds=lag.seconds,
            more=lag.more,
            parked=lag.parked,
            waits_event=sum(row.is_waiting and row.is_missed for row in parked),
            waits_release=sum(row.awaits_release for row in parked),
        )
        audit = (await runtime.control.note(audit_of(target.collection))).value
        if audit:
            self._tell(AuditKnown, name, at=audit["at"], differences=audit["differences"])

    async def _build(self, projection: Projection[Any]) -> None:
        building = (await self._runtime.catalogue.lineage(projection)).building
        note = await self._runtime.control.note(plan_of(building)) if building else None
        if note and note.revision:
            plan = plan_from(note.value)
            counts = (plan.replayed, plan.commits)
            self._tell(BuildMeasured, projection.name, building, *counts)

    async def _queues(self) -> None:
        queues = [queue.name for queue in self._runtime.topology.queues]
        pause = self._every / 2 / len(queues) if len(queues) > AT_ONCE else 0.0
        for queue in queues:
            await self._queue(queue)
            await asyncio.sleep(pause)

    async def _queue(self, queue: str) -> None:
        transport = self._runtime.transport
        messages, consumers = await transport.depth(queue), await transport.consumers(queue)
        self._tell(QueueMeasured, queue, messages=messages, consumers=consumers, expected=1)

    def _tell(self, kind: Callable[..., Signal], *values: Any, **named: Any) -> None:
        self._runtime.signals.emit(kind, *values, **named)


class Here:
    """Measures the states of this process: its health, and which partitions' messages it gets."""

    def __init__(self, runtime: Runtime, consumers: Callable[[], Iterable[object]] = tuple) -> None:
        self._runtime = runtime
        self._consumers = consumers
        self._told: Places = {}

    async def run(self) -> None:
        """Measures until it is cancelled, and says that nothing comes here any more."""
        try:
            await asyncio.sleep(min(FIRST, self._runtime.settings.facts_every))
            while True:
                if PartitionHeld in self._runtime.signals.wanted:
                    await self._runtime.checkup.health()
                    self.tell()
                await asyncio.sleep(self._runtime.settings.facts_every)
        finally:
            self._say({})

    def tell(self) -> None:
        """Says of each partition that is consumed here whether its messages come here."""
        held: Places = {}
        for consumer in self._consumers():
            if isinstance(consumer, ProjectionConsumer):
                place = (consumer.projection.name, partition_of(consumer.queue))
                if consumer.holds or place not in held:
                    held[place] = (consumer.queue, consumer.holds)
        self._say(held)

    def _say(self, held: Places) -> None:
        gone = {place: (queue, False) for place, (queue, _) in self._told.items()}
        self._told = held
        for (name, partition), (queue, holds) in (gone | held).items():
            self._runtime.signals.emit(PartitionHeld, queue, name, partition, held=holds)


def partition_of(queue: str) -> int:
    """Returns the number of the partition that a projection's queue holds: 2 of "x.2of4"."""
    found = re.search(r"\.(\d+)of\d+$", queue)
    return int(found[1]) if found else 0


def largest(groups: Sequence[Document]) -> list[tuple[str, str, str, int]]:
    """Returns the largest groups of dead letters by queue, message and error, and the rest as one
    under OTHER."""
    counted = Counter[tuple[str, str, str]]()
    for group in groups:
        counted[group["queue"], group["message"], group["error"]] += group["count"]
    ranked = counted.most_common()
    most = len(ranked) if len(ranked) <= MOST_GROUPS else MOST_GROUPS - 1
    rest = sum(count for _, count in ranked[most:])
    found = [(*place, count) for place, count in ranked[:most]]
    return [*found, (OTHER, OTHER, OTHER, rest)] if rest else found

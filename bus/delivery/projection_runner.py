"""Runs one projection in a worker.

It feeds the collections that this version of the code keeps up to date. Each has its own consumers,
is swept at the start and then regularly, and has its parked streams tried again.
"""

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.common.backoff import pauses
from bus.common.tasks import end
from bus.delivery.consumer import Consumers
from bus.delivery.foreign_events import ForeignEvents
from bus.delivery.projection_consumer import ProjectionConsumer
from bus.delivery.trust import Trust
from bus.errors import TransportUnavailable
from bus.failures.deadletters import settled_in_log
from bus.failures.give_up import GiveUp
from bus.lifecycle.duty import Duty
from bus.observe.log import Logger
from bus.observe.signals import ReadersMoved, ReadersStayed
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper
from bus.rebuild.builder import Builder
from bus.rebuild.generations import Generation, Lineage
from bus.rebuild.pause import Busy
from bus.rebuild.switch import Switch
from bus.transports.topology import Queue

FOLLOW_EVERY = 1.0
TEND_EVERY = 2.0
TIDY_EVERY = 60.0
MEND_EVERY = 5.0
"""Seconds between tries to make what could not be made as declared."""
SHOW_EVERY = 60.0
MOVE_EVERY = 30.0
PATIENCE = 10
STOP_WITHIN = 5.0

log = Logger("bus.worker")


class ProjectionRunner:
    """Runs a projection. `partitions` names the only ones to consume ("0of2"); empty, it is all."""

    def __init__(
        self,
        runtime: Runtime,
        projection: Projection[Any],
        consumers: Consumers,
        give_up: GiveUp,
        trust: Trust,
        partitions: Collection[str] = (),
    ) -> None:
        self._projection = projection
        self._runtime = runtime
        self._catalogue = runtime.catalogue
        self._feed = partial(
            CollectionFeed, runtime, projection, consumers, give_up, trust, partitions
        )
        self._fed: dict[Generation, CollectionFeed] = {}
        self._tidy_at = self._settle_at = self._show_at = self._mend_at = 0.0
        self._read = self._shown = ""
        self._idle: set[str] = set()
        self._begun = self._has_changed = False
        self._deleted: set[str] = set()

    @property
    def name(self) -> str:
        return f"projection {self._projection.name}"

    @property
    def duty(self) -> Duty:
        return Duty(self.name, self.run, begin=self.begin)

    async def begin(self) -> None:
        """Begins what this version of the code has to build; if that fails, `run` does so."""
        await self._runtime.loops.turn(self.name, self._begin, None)

    async def run(self) -> None:
        """Feeds what is known, and follows the projection's lineage until cancelled. The worker
        stops the consumers then."""
        try:
            self._follow(self._catalogue.known(self._projection))
            while True:
                await self._runtime.loops.turn(self.name, self._turn, None)
                await asyncio.sleep(clock.jittered(FOLLOW_EVERY))
        finally:
            if clock.is_cancelled():  # else it is started again and finds them running
                await end([feed.looking_after for feed in self._fed.values()])

    async def _turn(self) -> None:
        if not self._begun:
            await self._begin()
        if time.monotonic() >= self._mend_at:
            self._mend_at = time.monotonic() + MEND_EVERY
            await self._catalogue.problems(self._projection)
        await self._look()

    async def _begin(self) -> None:
        self._has_changed |= await self._catalogue.begin(self._projection)
        await self._catalogue.prepare(self._projection, serves=True)
        if self._has_changed:
            await self._runtime.transport.declare(self._runtime.topology)
        self._begun = True

    async def _look(self) -> None:
        lineage = await self._catalogue.lineage(self._projection, within=FOLLOW_EVERY / 2)
        fed = self._to_feed(lineage)
        for generation in self._fed.keys() - set(fed):
            await self._fed[generation].stop()
            del self._fed[generation]
        if set(fed) - self._fed.keys():
            await self._prepare()
        self._follow(lineage)
        await self._settle_left_over(lineage)
        await self._tidy(lineage)
        await self._show(lineage)

    async def _prepare(self) -> None:
        """Makes the collections, and the bound queues, of new generations."""
        await self._catalogue.prepare(self._projection, serves=True)
        await self._runtime.transport.declare(self._runtime.topology)

    async def _settle_left_over(self, lineage: Lineage) -> None:
        """Removes dead letters of queues that are no longer fed, once the collection that readers
        read has reached their events: soon after readers were moved, and then regularly."""
        if lineage.active != self._read:
            self._read, self._settle_at = lineage.active, 0.0
        if time.monotonic() < self._settle_at or not self._leads(lineage):
            return
        self._settle_at = time.monotonic() + TIDY_EVERY
        control = self._runtime.control
        names = {queue.name for queue in self._left_over(lineage)}
        if not names:
            return
        if kept := names & {group["queue"] for group in await control.dead_letter_groups()}:
            target = self._catalogue.target_of(self._projection, lineage.of(lineage.active))
            runtime = self._runtime
            await settled_in_log(
                runtime.collections,
                control,
                self._projection,
                target,
                kept,
                signals=runtime.signals,
            )

    async def _tidy(self, lineage: Lineage) -> None:
        """Deletes queues that nobody has consumed for a while, if they belong to collections that
        are no longer fed, or to former partitions: they would grow for ever. The log has what is in
        them."""
        if time.monotonic() < self._tidy_at or not self._leads(lineage):
            return
        self._tidy_at = time.monotonic() + TIDY_EVERY
        transport = self._runtime.transport
        names = {queue.name for queue in self._left_over(lineage)}
        used = {name for name in names if await transport.consumers(name)}
        # An older release has declared these again: they hold messages. Left in `_deleted`, they
        # would never be deleted again.
        back = {name for name in self._deleted & names if await transport.depth(name)}
        self._deleted -= used | back
        idle = names - used - self._deleted
        # Idle at two looks in a row: at one, a consumer may only be reconnecting.
        if over := idle & self._idle:
            await transport.delete(sorted(over))
            log.info("queues_deleted", queues=sorted(over))
            self._deleted |= over
        self._idle = idle - over

    async def _show(self, lineage: Lineage) -> None:
        """Makes the projection's name show what readers read; again, if somebody removed that."""
        if lineage.active != self._shown or time.monotonic() >= self._show_at:
            await self._catalogue.show(self._projection)
            self._shown, self._show_at = lineage.active, time.monotonic() + SHOW_EVERY

    def _leads(self, lineage: Lineage) -> bool:
        """Returns whether readers read what this version of the code makes."""
        return any(lineage.active == generation.collection for generation in self._fed)

    def _left_over(self, lineage: Lineage) -> Iterator[Queue]:
        for generation in (*lineage.generations, *lineage.gone):
            queues = partial(self._runtime.queues_of, self._projection, generation)
            if generation not in self._fed:
                yield from queues()
            for count in generation.former:
                yield from queues(count)

    def _to_feed(self, lineage: Lineage) -> list[Generation]:
        now = self._runtime.control.now().timestamp()
        fed = lineage.fed_by(self._projection.version)
        return [generation for generation in fed if not lineage.is_paused(generation, now)]

    def _follow(self, lineage: Lineage) -> None:
        for generation in self._to_feed(lineage):
            if generation not in self._fed:
                self._fed[generation] = self._feed(generation)
                self._fed[generation].start()


class CollectionFeed:
    """Keeps one collection up to date: its consumers, and the task that looks after it."""

    def __init__(
        self,
        runtime: Runtime,
        projection: Projection[Any],
        consumers: Consumers,
        give_up: GiveUp,
        trust: Trust,
        partitions: Collection[str],
        generation: Generation,
    ) -> None:
        self._runtime = runtime
        self._projection = projection
        self._worker_consumers = consumers
        self._give_up = give_up
        self._trust = trust
        self._generation = generation
        self._switch = Switch(
            projection, runtime.catalogue, runtime.read_log, runtime.collections, runtime.control
        )
        self._target = runtime.catalogue.target_of(projection, generation)
        named = [queue.name for queue in runtime.queues_of(projection, generation)]
        self._queues = [
            name for name in named if not partitions or name.rpartition(".")[2] in partitions
        ]
        self._consumers: list[ProjectionConsumer] = []
        self._move_at = 0.0
        self._name = f"{self._target.collection}.sweep"
        self.looking_after: asyncio.Task[None]

    def start(self) -> None:
        """Starts to consume, unless the collection must be built first."""
        if not self._is_building:
            self._consume()
        self.looking_after = self._runtime.loops.start(self._live, self._name)

    async def _live(self) -> None:
        """Build → consume → look after."""
        if not self._consumers:
            await self._build()
            self._consume()
        await self.look_after()

    def _consume(self) -> None:
        self._consumers = [self._consumer(name) for name in self._queues]
        for consumer in self._consumers:
            self._worker_consumers.start(consumer)

    async def _build(self) -> None:
        """Builds the collection. Its queues are bound already, and hold what happens meanwhile."""
        runtime = self._runtime
        log_to_read = runtime.read_log
        projector = self._projector(
            f"{self._runtime.service}.{self._target.collection}.build", parks_all=True
        )
        builder = Builder(projector, log_to_read, runtime.collections, runtime.control)

        async def build() -> bool:
            await self._wait_for_history()
            await builder.run()
            return True

        try:
            for pause in pauses():
                if await self._runtime.loops.turn(self._name, build, otherwise=False):
                    return
                await asyncio.sleep(pause)
        finally:
            await projector.close()

    async def _wait_for_history(self) -> None:
        """Waits until the history of what it follows is complete; others see to that."""
        for pause in pauses(longest=FOLLOW_EVERY):
            if not await self._runtime.history.missing(self._projection.categories):
                return
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Finishes what is at hand, and stops feeding."""
        await end([self.looking_after])
        await self._worker_consumers.finish(self._consumers, time.monotonic() + STOP_WITHIN)

    async def is_behind(self) -> bool:
        """Returns whether one of its queues has a backlog at present, here or at the broker, which
        may have sent little of it yet, or sends it to another worker."""
        transport = self._runtime.transport
        if not transport.healthy:
            return False
        if any(consumer.behind for consumer in self._consumers):
            return True
        with suppress(TransportUnavailable):
            return any([await transport.depth(name) for name in self._queues])
        return False

    async def look_after(self) -> None:
        """Sweeps at the start and then as often as the settings say; tries parked streams again, at
        the start all of them, because the code may have been corrected.

        What is still in the queues would seem missing to a sweep, which would apply it from the log
        and conflict with the consumers. So a sweep waits until they have caught up, but no longer
        than PATIENCE times `sweep_every`.
        """
        every = self._runtime.settings.sweep_every
        projector = self._projector(f"{self._runtime.service}.{self._target.collection}.sweep")
        sweeper = Sweeper(
            projector, self._runtime.read_log, self._runtime.collections, self._runtime.control
        )
        first = untried = True
        waiting = 0.0

        async def look() -> None:
            nonlocal first, untried, waiting
            if first or await sweeper.is_due(every):
                waiting = waiting or time.monotonic()
                if not await self.is_behind() or time.monotonic() - waiting > PATIENCE * every:
                    await sweeper.sweep()
                    await self._settle_letters()
                    first, waiting = False, 0.0
            if await sweeper.tend(all=untried):
                await self._settle_letters()
                self._move_at = 0.0
            untried = False
            if not first and self._is_building and clock.source.elapsed() >= self._move_at:
                await self._move_readers()

        try:
            for pause in pauses(longest=TEND_EVERY):  # short ones first: readers wait
                await self._runtime.loops.turn(self._name, look, None)
                await asyncio.sleep(pause)
        finally:
            await projector.close()

    async def _settle_letters(self) -> None:
        queues = self._runtime.letters_of(self._projection, self._generation)
        runtime = self._runtime
        await settled_in_log(
            runtime.collections,
            runtime.control,
            self._projection,
            self._target,
            queues,
            signals=runtime.signals,
        )

    @property
    def _is_building(self) -> bool:
        lineage = self._runtime.catalogue.known(self._projection)
        return lineage.building == self._generation.collection

    async def _move_readers(self) -> None:
        """Moves readers to this collection, which is built; if they must stay, says why."""
        try:
            reason = await self._switch.to(self._generation)
        except Busy:  # another worker is moving them
            return
        if reason:
            self._move_at = clock.source.elapsed() + MOVE_EVERY
            self._runtime.signals.emit(
                ReadersStayed, self._projection.name, built=self._target.collection, reason=reason
            )
        elif not self._is_building:
            self._runtime.signals.emit(
                ReadersMoved, self._projection.name, to=self._target.collection
            )

    def _consumer(self, queue: str) -> ProjectionConsumer:
        settings = self._runtime.settings
        return ProjectionConsumer(
            queue,
            self._projector(queue),
            self._runtime.transport,
            self._runtime.collections,
            self._runtime.control,
            self._give_up,
            ForeignEvents(self._runtime.followed, self._runtime.history.asked, self._give_up),
            self._trust,
            prefetch=settings.prefetch,
            batch=settings.batch,
            vouch=self._runtime.continuity.vouch,
        )

    def _projector(self, name: str, *, parks_all: bool = False) -> Projector:
        return self._runtime.projector(self._projection, self._target, name, parks_all=parks_all)

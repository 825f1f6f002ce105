"""Builder: fills a new collection of a projection from the log; several workers share the work.

The log is divided into shares. A note holds the progress of each, and the worker that has a
share's lease goes on from there, after a crash too: replaying twice gives the same documents.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from bus.common import clock
from bus.data.payload import Document
from bus.observe.log import Logger
from bus.observe.signals import BuildBegun, Rebuilt
from bus.observe.tracer import Batch
from bus.read.projector import Projector
from bus.rebuild.replay import Reached
from bus.rebuild.replay_in_time import folds_streams, replay_into
from bus.stores.collections import Collections
from bus.stores.control import Control, change_note
from bus.stores.event_log import ReadableLog

SHARES = 16
SHARE_OF = 10_000
"""Commits: taking on a smaller share would take longer than it saves."""
LEASE = 10.0
LOOK_EVERY = 0.5

log = Logger("bus.builder")


class Share(NamedTuple):
    """A part of the log (up to a stream, or some of the streams), and how far it is replayed."""

    until: str
    place: str = ""
    commits: int = 0
    is_done: bool = False

    @property
    def is_of_time(self) -> bool:
        """Whether it is some of the streams, in time: "0of2", which is no stream's id."""
        return "of" in self.until and "-" not in self.until


class Plan(NamedTuple):
    """What there is to replay: the time when it began, about how many commits, and their shares."""

    since: datetime
    commits: int
    shares: tuple[Share, ...]

    @property
    def is_done(self) -> bool:
        return all(share.is_done for share in self.shares)

    @property
    def replayed(self) -> int:
        """The number of replayed commits."""
        return sum(share.commits for share in self.shares)

    def with_share(self, number: int, share: Share) -> "Plan":
        shares = list(self.shares)
        shares[number] = share
        return self._replace(shares=tuple(shares))

    def document(self) -> Document:
        """Returns the plan as JSON types."""
        shares = [share._asdict() for share in self.shares]
        return {**self._asdict(), "since": self.since.isoformat(), "shares": shares}


def plan_from(document: Document) -> Plan:
    """Returns the plan that `Plan.document` made a document of."""
    shares = tuple(Share(**share) for share in document["shares"])
    return Plan(datetime.fromisoformat(document["since"]), document["commits"], shares)


def plan_of(collection: str) -> str:
    """Returns the key of a collection's plan."""
    return f"{collection}/plan"


class _Lost(Exception):
    """Another worker has taken over the share."""


class Builder:
    """Builds one collection; several workers may share the work."""

    def __init__(
        self,
        projector: Projector,
        event_log: ReadableLog,
        collections: Collections,
        control: Control,
    ) -> None:
        self._projector = projector
        self._target = projector.target
        self._log = event_log
        self._collections = collections
        self._control = control
        self._owner = clock.new_id()
        self._key = plan_of(self._target.collection)

    async def run(self) -> None:
        """Replays share after share. Raises: StoreUnavailable, OutcomeUnknown (run it again)."""
        began, since = time.monotonic(), time.time()
        while not (plan := await self._plan()).is_done:
            for number, share in enumerate(plan.shares):
                if not share.is_done and await self._hold(number):
                    await self._replay(number)
                    break
            else:
                await asyncio.sleep(clock.jittered(LOOK_EVERY))
        if await self._control.swept(self._target) is None:
            await self._control.mark_swept(self._target, plan.since)
        signals, name = self._projector.signals, self._projector.projection.name
        signals.batch(Batch("rebuild", name, since, contexts=(), messages=plan.replayed))
        signals.emit(
            Rebuilt,
            name,
            self._target.collection,
            commits=plan.replayed,
            seconds=time.monotonic() - began,
        )

    async def _plan(self) -> Plan:
        """Returns the plan as stored; the first worker writes it."""
        note = await self._control.note(self._key)
        if note.revision:
            return plan_from(note.value)
        since = min(self._control.now(), await self._log.settled())
        projection = self._projector.projection
        count = await self._log.count(projection.categories)
        plan = Plan(since, count, tuple(await self._shares(count)))
        if await self._control.write_note(note._replace(value=plan.document())):
            self._projector.signals.emit(
                BuildBegun, projection.name, self._target.collection, commits=count
            )
        return await self._plan()

    async def _shares(self, commits: int) -> list[Share]:
        """Divides the log: by streams, each share beginning where the one before it ends; or, if
        events are replayed in time, as the projection is partitioned. Partitions do not change each
        other's documents, unless the author has accepted that."""
        projection = self._projector.projection
        if not folds_streams(self._projector, self._collections):
            return [Share(f"{n}of{projection.partitions}") for n in range(projection.partitions)]
        (category,) = projection.categories
        ends = await self._log.split(category, min(SHARES, commits // SHARE_OF + 1))
        return list(map(Share, [*ends, ""], ["", *ends]))

    async def _replay(self, number: int) -> None:
        share = (await self._plan()).shares[number]
        reached = Reached(share.place, share.commits)
        try:
            replay = replay_into(
                self._projector, self._log, self._collections, by_stream=not share.is_of_time
            )
            await replay.run(reached, share.until, partial(self._note, number))
            await self._change(
                lambda plan: plan.with_share(number, plan.shares[number]._replace(is_done=True))
            )
        except _Lost:
            log.warning("share_taken_over", share=number)

    async def _note(self, number: int, reached: Reached) -> None:
        if not await self._hold(number):
            raise _Lost
        await self._change(
            lambda plan: plan.with_share(
                number, plan.shares[number]._replace(place=reached.place, commits=reached.commits)
            )
        )

    async def _hold(self, number: int) -> bool:
        lease = f"{self._key}/{number}"
        return await self._control.lease(lease, self._owner, LEASE)

    async def _change(self, change: Callable[[Plan], Plan]) -> None:
        await change_note(
            self._control, self._key, lambda document: change(plan_from(document)).document()
        )

"""Audit: compares a projection's documents with what the log makes of them, on a live system.

The log is folded once more, into the audit's own collection. Documents that differ may only be in
flight; so writes to the audited collection are paused for some seconds, both are brought to equal
versions, and what still differs is drift.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from bus.common import clock
from bus.common.batches import batched
from bus.data.ids import category_of, key_of
from bus.errors import ProjectionError, VersionUnusable
from bus.observe.listeners import Signals
from bus.observe.signals import ProjectionAudited, Repaired
from bus.observe.tracer import Batch
from bus.read.foreign import Foreign
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.read.sweeper import SWEEP_OVERLAP
from bus.rebuild.catalogue import Catalogue
from bus.rebuild.drift import Audited, Difference, Selection, alike, audit_of, differing, noted
from bus.rebuild.fed import keys_fed
from bus.rebuild.pause import paused
from bus.rebuild.replay import LogUpTo, Reached
from bus.rebuild.replay_in_time import folds_streams, replay_into
from bus.stores.collections import Collections, Comparable, Target, needed
from bus.stores.control import Control, change_note, drop
from bus.stores.event_log import ReadableLog, Streams

BESIDE = "__audit_"
"""In the name of an audit's own collection, before an id that holds its time of creation."""
LEFT_OVER = timedelta(days=1)
"""The age at which a later audit removes what a killed one has left."""
PAGE = 500
PLACES = 16
"""The number of places in the log where a sample looks for missing documents, at most."""
HELD_AT_ONCE = 1000
MOST_STUCK = 2000
STUCK_AFTER = 5.0
LOOK_EVERY = 0.5
TRIES = 5

Report = Callable[[int, int], object]
"""Called with the number of folded commits, and of all."""


class Audit:
    """Audits the collection that readers read. One at a time for each projection."""

    def __init__(
        self,
        projection: Projection[Any],
        target: Target,
        catalogue: Catalogue,
        event_log: ReadableLog,
        collections: Collections,
        control: Control,
        foreign: Foreign,
        *,
        service: str,
        signals: Signals,
    ) -> None:
        self._projection = projection
        self._target = target
        self._catalogue = catalogue
        self._log = event_log
        self._collections = collections
        self._comparable: Comparable = needed(
            collections,
            Comparable,
            target=target,
            what="an audit",
            remedy=f"have it built anew, `bus projections rebuild APP {projection.name}`",
        )
        self._control = control
        self._foreign = foreign
        self._service = service
        self._signals = signals
        self._again = target._replace(
            collection=f"{target.collection}{BESIDE}{clock.new_id()}", indexes=()
        )
        self._compared = 0
        self._unusable: set[str] = set()
        """Streams parked for an unusable version: repairing the document mends them."""

    async def run(
        self,
        *,
        sample: int = 0,
        part: Selection | None = None,
        repair: bool = False,
        report: Report | None = None,
    ) -> Audited:
        """Compares `sample` random documents, or a part, or all. With `repair`, puts those
        right that differ.

        Raises: ProjectionError (it is held by others, or too far behind), StoreUnavailable,
        OutcomeUnknown.
        """
        self._compared, started = 0, time.time()
        began = self._control.now()
        await self._remove_left_over(began)
        try:
            await self._collections.prepare(self._again)
            keys = await self._fold(sample, part, report)
            rows = await self._control.parked(self._target)
            parked = {row.stream for row in rows if not row.is_waiting}
            self._unusable = {row.stream for row in rows if row.error == VersionUnusable.__name__}
            suspects = [
                key
                for key in await self._unlike(keys)
                if not self._waits(key, parked - self._unusable)
            ]
            found = await self._settled(suspects, began, repair)
        finally:
            await drop(self._collections, self._control, self._again)
        if part is None:
            await self._note(sum(not difference.repaired for difference in found), sample)
        self._tell(found, started)
        return Audited(self._target.collection, self._compared, tuple(found), tuple(sorted(parked)))

    async def _note(self, left: int, sample: int) -> None:
        change = noted(self._control.now().timestamp(), left, whole=not sample)
        await change_note(self._control, audit_of(self._target.collection), change)

    def _tell(self, found: Sequence[Difference], started: float) -> None:
        name, seconds = self._projection.name, time.time() - started
        repaired = sum(difference.repaired for difference in found)
        where = self._target.collection
        counts = (self._compared, len(found), repaired)
        self._signals.emit(ProjectionAudited, name, where, *counts, seconds=seconds)
        self._signals.batch(Batch("audit", name, started, contexts=(), messages=self._compared))

    def _waits(self, key: str, parked: set[str]) -> bool:
        """Returns whether a document is known to be behind, because its stream is parked."""
        own = self._target.versions_in_documents
        return own and f"{self._projection.categories[0]}-{key}" in parked

    async def _remove_left_over(self, now: datetime) -> None:
        """Removes the collections of audits that were killed."""
        for name in await self._collections.identities():
            beside, _, id = name.rpartition(BESIDE)
            made = clock.time_of(id) if beside == self._target.collection else None
            if made and now - made > LEFT_OVER:
                left_over = self._again._replace(collection=name)
                await drop(self._collections, self._control, left_over)

    # --- folding once more ---------------------------------------------------------------------

    async def _fold(
        self, sample: int, part: Selection | None, report: Report | None
    ) -> Collection[str] | None:
        """Fills the audit's own collection; returns the keys to compare, or None for all."""
        chosen = list(part.documents) if part else await self._sample(self._target, sample)
        streams = await self._streams_of(part) if part else []
        own = self._target.versions_in_documents
        fed = set() if own else await keys_fed(self._projection, streams, self._log)
        async with self._projector(self._again, self._log) as again:
            if (part or sample) and own:
                (category,) = self._projection.categories
                streams += [f"{category}-{key}" for key in chosen]
                streams += await self._log.split(category, min(sample, PLACES)) if sample else []
                await self._apply(again, streams)
                return dict.fromkeys(map(key_of, streams))
            await self._fold_all(again, report)
        if part:
            return dict.fromkeys([*chosen, *fed])
        return dict.fromkeys([*chosen, *await self._sample(self._again, sample)]) or None

    async def _sample(self, target: Target, count: int) -> list[str]:
        return await self._comparable.sample(target, count) if count else []

    async def _streams_of(self, part: Selection) -> list[str]:
        """Returns a part's streams, without those that its documents are named after. Raises:
        ProjectionError if one does not feed the projection."""
        for stream in part.streams:
            if category_of(stream) not in self._projection.categories:
                raise ProjectionError(
                    f"projection {self._projection.name!r} is fed by "
                    f"streams of {', '.join(self._projection.categories)}, and {stream!r} is not "
                    f"one; write it as {self._projection.categories[0]}-ID"
                )
        found = dict.fromkeys(part.streams)
        if part.since:
            found |= dict.fromkeys(await self._streams_since(part.since))
        for category in self._projection.categories if part.matching else ():
            async for page in self._log.scan_streams(category):
                found |= dict.fromkeys(
                    commit.stream for commit in page if fnmatchcase(commit.stream, part.matching)
                )
        return list(found)

    async def _fold_all(self, again: Projector, report: Report | None) -> None:
        count = await self._log.count(self._projection.categories)

        async def progress(reached: Reached) -> None:
            if report:
                report(min(reached.commits, count), count)

        by_stream = folds_streams(again, self._collections)
        replay = replay_into(again, self._log, self._collections, by_stream=by_stream)
        await replay.run(Reached("", 0), "", progress)

    async def _apply(self, projector: Projector, streams: Collection[str]) -> None:
        for chunk in batched(streams, PAGE):
            await projector.apply_streams(chunk)

    # --- comparing -----------------------------------------------------------------------------

    async def _unlike(self, keys: Collection[str] | None) -> list[str]:
        """Returns the keys whose documents differ at first sight."""
        if keys is not None:
            self._compared = len(keys)
            return [difference.key for difference in await self._compare(keys)]
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            here = await self._comparable.page(self._target, after, PAGE)
            there = await self._comparable.page(self._again, after, PAGE)
            after, some = differing(here, there, PAGE)
            found += some
            self._compared += max(len(here), len(there))
        return found

    async def _compare(self, keys: Collection[str]) -> list[Difference]:
        found: list[Difference] = []
        for chunk in batched(keys, PAGE):
            here = await self._comparable.whole(self._target, chunk)
            there = await self._comparable.whole(self._again, chunk)
            found += [
                Difference(key, here.get(key), there.get(key))
                for key in chunk
                if not alike(here.get(key), there.get(key))
            ]
        return found

    # --- settling what was not alike -----------------------------------------------------------

    async def _settled(
        self, suspects: Sequence[str], began: datetime, repair: bool
    ) -> list[Difference]:
        """Returns what still differs at equal versions; some keys at a time, to pause briefly."""
        differences: list[Difference] = []
        for some in batched(suspects, HELD_AT_ONCE):
            async with self._level(some, began, repair) as (found, until):
                if repair:
                    found = [await self._repaired(difference, until) for difference in found]
                differences += found
        return differences

    def _check_time(self, until: float) -> None:
        if time.monotonic() > until:
            raise ProjectionError(
                f"projection {self._projection.name!r}: comparing took longer than it can be held; "
                f"try again when there is less to do"
            )

    @asynccontextmanager
    async def _level(
        self, keys: Collection[str], began: datetime, repair: bool
    ) -> AsyncIterator[tuple[list[Difference], float]]:
        """Pauses writes, with both collections at equal versions of what was in flight; yields
        what differs then, and until when it is paused.

        What is stuck shows as a difference, except in a repair if versions stand apart from
        documents: unless all versions are equal then, events in a replaced document would be
        applied to it again.
        """
        swept = await self._control.swept(self._target)
        since = min(began, swept or began) - SWEEP_OVERLAP  # before, nothing is in flight
        stuck = await self._caught_up(since)
        apart = repair and not self._target.versions_in_documents
        if apart:
            await self._equalise(await self._streams_since(None))
            stuck = set()
        async with paused(self._catalogue, self._control, self._projection) as until:
            for _ in range(TRIES):
                streams = await self._streams_since(since)
                await self._equalise([stream for stream in streams if stream not in stuck])
                found = await self._compare(keys)
                self._check_time(until)
                if not apart or await self._is_level(since):
                    break
            else:
                raise ProjectionError(
                    f"projection {self._projection.name!r}: a worker goes on writing while it is "
                    f"held, or versions are not those of the log; try again, or have it built anew"
                )
            yield found, until

    async def _is_level(self, since: datetime) -> bool:
        """Returns whether versions are equal, asked once documents were read: a worker that was
        late to learn of the pause may have applied more before. Raises: ProjectionError."""
        await self._check_parked()
        streams = await self._streams_since(since)
        here = await self._versions(self._target, streams)
        return here == await self._versions(self._again, streams)

    async def _check_parked(self) -> None:
        """Raises: ProjectionError if a parked stream has another version here than there."""
        rows = [*await self._control.parked(self._target), *await self._control.parked(self._again)]
        streams = {row.stream for row in rows}
        here = await self._versions(self._target, streams)
        if here != await self._versions(self._again, streams):
            raise ProjectionError(
                f"projection {self._projection.name!r}: this code applies parked streams further "
                f"than its workers did, or less far; nothing is repaired: see to the parked "
                f"streams first"
            )

    async def _caught_up(self, since: datetime) -> set[str]:
        """Waits until what is in flight now has arrived; returns the streams that are stuck.

        Raises: ProjectionError if these are too many.
        """
        heads = await self._heads(await self._streams_since(since))
        behind = await self._behind(heads)
        moved_at = time.monotonic()
        while behind and time.monotonic() < moved_at + STUCK_AFTER:
            await asyncio.sleep(LOOK_EVERY)
            left = await self._behind({stream: heads[stream] for stream in behind})
            if len(left) < len(behind):
                moved_at = time.monotonic()
            behind = left
        if len(behind) > MOST_STUCK:
            raise ProjectionError(
                f"projection {self._projection.name!r} is behind in {len(behind)} streams and "
                f"gets no further; see to its worker, and audit it then"
            )
        return behind

    async def _heads(self, streams: Sequence[str]) -> dict[str, int]:
        """Updates the audit's own collection from these streams; returns the versions reached."""
        async with self._projector(self._again, self._log) as again:
            await self._apply(again, streams)
        return await self._versions(self._again, streams)

    async def _behind(self, heads: Mapping[str, int]) -> set[str]:
        here = await self._versions(self._target, heads)
        return {stream for stream, head in heads.items() if here.get(stream, 0) < head}

    async def _versions(self, target: Target, streams: Iterable[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for chunk in batched(streams, PAGE):
            found |= await self._collections.versions(target, chunk)
        return found

    async def _equalise(self, streams: Sequence[str]) -> None:
        """Brings both collections to the same versions of these streams."""
        heads = await self._heads(streams)
        async with self._projector(self._target, LogUpTo(self._log, heads)) as here:
            await here.refresh()
            await self._apply(here, heads)

    async def _streams_since(self, since: datetime | None) -> list[str]:
        commits = self._log.arrived(self._projection.categories, since)
        return list({commit.stream: None async for commit in commits})

    async def _repaired(self, drift: Difference, until: float) -> Difference:
        """Repairs a document, if there is time left; returns the difference, as it is then."""
        if time.monotonic() > until:
            return drift
        done = await self._comparable.replace(self._target, drift.key, drift.found, drift.expected)
        self._signals.emit(Repaired, self._projection.name, drift.key, drift.kind, done=done)
        if done and self._target.versions_in_documents:
            await self._try_again(f"{self._projection.categories[0]}-{drift.key}")
        return drift._replace(repaired=done)

    async def _try_again(self, stream: str) -> None:
        """Has the workers' next turn apply a stream that was parked for its version."""
        for row in await self._control.parked(self._target) if stream in self._unusable else ():
            if row.stream == stream:
                await self._control.park(self._target, row._replace(next_try=self._control.now()))

    @asynccontextmanager
    async def _projector(self, target: Target, event_log: Streams) -> AsyncIterator[Projector]:
        writer = self._collections.writer(target, f"{self._service}.{target.collection}.audit")
        projector = Projector(
            self._projection,
            target,
            event_log,
            self._collections,
            self._control,
            writer,
            self._foreign,
            parks_all=True,
            reports_parked=target != self._again,
            signals=self._signals,
        )
        try:
            yield projector
        finally:
            await projector.close()

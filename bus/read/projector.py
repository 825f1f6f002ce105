"""Projector: keeps one projection's documents equal to the fold of the log.

A stream's versions have no gaps, so each event is known to be a duplicate, the next one, or too
early; what is missing is read from the log. The decision and the write are one transaction.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog

from bus import ambient
from bus.codec import envelopes_of
from bus.errors import MessageError, OutcomeUnknown, ProjectionError, Unavailable
from bus.fingerprint import failure_of
from bus.messages import Envelope
from bus.read.projection import Projection
from bus.stores.base import Changes, Commit, EventLog, Parked, ReadStore, ReadUnit, Write, Writer
from bus.transports.topology import DELAYS

Batch = Mapping[str, Sequence[Envelope]]
"""Events by stream, in any order; an empty sequence asks for whatever the log holds."""

LOOK_EVERY = 1.0
TEND_LEASE = 10.0
SWEEP_BATCH = 500
SWEEP_GRACE = timedelta(seconds=5)
SWEEP_OVERLAP = timedelta(minutes=2)

log = structlog.get_logger("bus.projector")


class StreamFailed(Exception):
    """An event of one stream cannot be applied; the other streams of the batch can."""

    def __init__(self, stream: str, version: int, cause: Exception) -> None:
        super().__init__(f"{stream}@{version}: {cause!r}")
        self.stream = stream
        self.version = version
        self.cause = cause


class Applied(NamedTuple):
    """What became of a batch: events applied (of these from the log), and duplicates dropped."""

    events: int = 0
    healed: int = 0
    duplicates: int = 0

    def __add__(self, other: "Applied") -> "Applied":  # type: ignore[override]
        return Applied(*(a + b for a, b in zip(self, other, strict=True)))


class Projector:
    """Applies events to one projection's documents, through one writer."""

    def __init__(
        self, projection: Projection[Any], event_log: EventLog, store: ReadStore, writer: Writer
    ) -> None:
        self.projection = projection
        self.target = projection.target()
        self._registry = projection.registry()
        self._log = event_log
        self._store = store
        self._writer = writer
        self._parked: dict[str, Parked] = {}
        self._look_at = 0.0

    async def take_over(self) -> None:
        """Ends what a predecessor may have left open. To be called before the first batch."""
        await self._writer.take_over()
        await self.refresh()

    async def refresh(self) -> None:
        """Learns which streams are parked."""
        self._parked = {one.stream: one for one in await self._store.parked(self.target)}

    async def apply(self, arrived: Iterable[Envelope]) -> Applied:
        """Applies what arrived, each event exactly once; a stream that fails is parked.

        Events of a parked stream are dropped: its retry reads the log.
        Raises: StoreUnavailable, OutcomeUnknown (applying the same again is safe).
        """
        batch: dict[str, list[Envelope]] = defaultdict(list)
        for envelope in arrived:
            if envelope.stream not in self._parked:
                batch[envelope.stream].append(envelope)
        applied = await self._apply(batch) if batch else Applied()
        if applied.healed or applied.duplicates:
            log.info("projected", projection=self.projection.name, **applied._asdict())
        return applied

    async def apply_streams(self, streams: Iterable[str]) -> Applied:
        """Applies whatever the log holds of these streams beyond the versions reached."""
        batch: Batch = {stream: [] for stream in streams if stream not in self._parked}
        return await self._apply(batch)

    async def look(self) -> None:
        """Learns once in a while which streams are parked."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            await self.refresh()

    @property
    def has_due(self) -> bool:
        """Whether a parked stream's time has come."""
        return any(one.next_try <= ambient.now() for one in self._parked.values())

    async def retry_parked(self) -> list[str]:
        """Tries again each parked stream whose time has come; returns those that were applied."""
        now = ambient.now()
        due = [one.stream for one in self._parked.values() if one.next_try <= now]
        for stream in due:
            await self._apply({stream: []})
        return [stream for stream in due if stream not in self._parked]

    async def close(self) -> None:
        await self._writer.close()

    async def _apply(self, batch: Batch) -> Applied:
        done = Applied()
        while batch:
            fold = _Fold(self, batch)
            try:
                await self._writer.transact(list(batch), fold)
            except StreamFailed as failure:
                batch, before = _without(batch, failure)
                done += await self._apply_before(before, failure)
                await self._park(failure)
            except ProjectionError as error:
                return done + await self._apply_each(batch, error)
            else:
                await self._unpark(batch)
                return done + fold.applied
        return done

    async def _apply_before(self, batch: Batch, failure: StreamFailed) -> Applied:
        """Applies what precedes the failing event of its stream, so that only it stands still."""
        fold = _Fold(self, batch, before=failure.version)
        try:
            await self._writer.transact(list(batch), fold)
        except (StreamFailed, ProjectionError):
            return Applied()
        return fold.applied

    async def _apply_each(self, batch: Batch, error: ProjectionError) -> Applied:
        """The store refused the batch's writes without saying whose: stream by stream it shows."""
        if len(batch) > 1:
            done = Applied()
            for stream, events in batch.items():
                done += await self._apply({stream: events})
            return done
        (stream,) = batch
        version = (await self._store.versions(self.target, [stream])).get(stream, 0) + 1
        await self._park(StreamFailed(stream, version, error))
        return Applied()

    async def _park(self, failure: StreamFailed) -> None:
        message = await self._message_at(failure.stream, failure.version)
        told = failure_of(failure.cause, message, self.projection.name)
        before = self._parked.get(failure.stream)
        tries = before.tries + 1 if before else 1
        delay = ambient.jittered(DELAYS[min(tries, len(DELAYS)) - 1])
        parked = Parked(
            failure.stream,
            failure.version,
            told.error,
            tries,
            ambient.now() + timedelta(seconds=delay),
            message,
            told.reason,
            told.frames,
            told.fingerprint,
            before.first_seen if before else ambient.now(),
            ambient.now(),
        )
        await self._store.park(self.target, parked)
        self._parked[failure.stream] = parked
        log.error(
            "stream parked",
            projection=self.projection.name,
            stream=failure.stream,
            version=failure.version,
            message=message,
            error=parked.error,
            reason=parked.reason[:500],
            tries=tries,
            next_try=parked.next_try.isoformat(),
        )

    async def _message_at(self, stream: str, version: int) -> str:
        """The name of a stream's event; empty where the log does not hold it."""
        for commit in await self._log.read(stream, after=version - 1, limit=1):
            return commit.events[version - commit.first].name
        return ""

    async def _unpark(self, batch: Batch) -> None:
        for stream in batch:
            if self._parked.pop(stream, None):
                await self._store.unpark(self.target, stream)
                log.info("stream applied again", projection=self.projection.name, stream=stream)

    async def events_after(
        self, stream: str, version: int, arrived: Sequence[Envelope]
    ) -> tuple[list[Envelope], bool]:
        """The events to apply next, without gaps, and whether the log was needed for them.

        Raises: StreamFailed where the log cannot be read as events, or lacks what has arrived.
        """
        new = {envelope.version: envelope for envelope in arrived if envelope.version > version}
        if arrived and len(new) == max(new, default=version) - version:
            return [new[number] for number in sorted(new)], False
        healed: list[Envelope] = []
        reached = version
        try:
            for commit in await self._log.read(stream, after=version):
                for envelope in envelopes_of(commit, self._registry, after=reached):
                    healed.append(envelope)
                    reached = envelope.version
        except MessageError as error:
            raise StreamFailed(stream, reached + 1, error) from error
        if reached < max(new, default=0):
            raise StreamFailed(stream, reached + 1, ProjectionError("the log lacks this event"))
        return healed, True


class _Fold:
    """What a transaction runs: from the versions reached to the changes that a batch makes."""

    def __init__(self, projector: Projector, batch: Batch, before: int | None = None) -> None:
        self._projector = projector
        self._batch = batch
        self._before = before
        self.applied = Applied()

    async def __call__(self, unit: ReadUnit) -> Changes:
        self.applied = Applied()
        writes: list[Write] = []
        versions: dict[str, int] = {}
        for stream, arrived in self._batch.items():
            version = unit.versions.get(stream, 0)
            events, from_log = await self._projector.events_after(stream, version, arrived)
            if self._before is not None:
                events = [event for event in events if event.version < self._before]
            for envelope in events:
                writes += await self._changes(envelope, unit)
            if events:
                versions[stream] = events[-1].version
            self._count(arrived, version, len(events), from_log)
        return Changes(writes, versions)

    async def _changes(self, envelope: Envelope, unit: ReadUnit) -> list[Write]:
        try:
            return await self._projector.projection.changes(envelope, unit)
        except (Unavailable, OutcomeUnknown):
            raise
        except asyncio.CancelledError as error:
            if ambient.is_cancelled():
                raise
            cause = ProjectionError("something that the handler awaited was cancelled")
            raise StreamFailed(envelope.stream, envelope.version, cause) from error
        except Exception as error:
            raise StreamFailed(envelope.stream, envelope.version, error) from error

    def _count(
        self, arrived: Sequence[Envelope], version: int, events: int, from_log: bool
    ) -> None:
        fresh = {envelope.version for envelope in arrived if envelope.version > version}
        self.applied += Applied(events, events if from_log else 0, len(arrived) - len(fresh))


class Sweeper:
    """Looks after a projection beside its consumers: what never arrived, and what is parked.

    A delivery that never came (a queue deleted by hand, a broker lost for good) only delays.
    """

    def __init__(self, projector: Projector, event_log: EventLog, store: ReadStore) -> None:
        self._projector = projector
        self._log = event_log
        self._store = store
        self._owner = ambient.new_id()
        self._again: list[str] = []

    async def tend(self) -> None:
        """Tries again the parked streams that are due. To be called every few seconds.

        Consumers drop events of a stream for as long as they take it for parked, so a stream that
        was applied is looked at once more, the next time.
        """
        await self._projector.refresh()
        again, self._again = self._again, []
        await self._projector.apply_streams(again)
        lease = f"parked/{self._projector.projection.name}"
        if self._projector.has_due and await self._store.lease(lease, self._owner, TEND_LEASE):
            self._again = await self._projector.retry_parked()

    async def is_due(self, every: float) -> bool:
        """Whether nobody has swept for `every` seconds."""
        swept = await self._store.swept(self._projector.target)
        return swept is None or ambient.now() - swept > timedelta(seconds=every)

    async def sweep(self) -> int:
        """Applies what is missing of all commits since the last sweep; returns how many events."""
        target = self._projector.target
        until = ambient.now() - SWEEP_GRACE
        since = await self._store.swept(target)
        await self._projector.refresh()
        found = 0
        async for commits in self._chunks(since and since - SWEEP_OVERLAP, until):
            found += await self._apply_missing(commits)
        await self._store.mark_swept(target, until)
        if found:
            log.info("swept", projection=target.projection, missing=found)
        return found

    async def _chunks(self, since: datetime | None, until: datetime) -> AsyncIterator[list[Commit]]:
        chunk: list[Commit] = []
        async for commit in self._log.scan(self._projector.projection.categories, since):
            if commit.time > until:
                break
            chunk.append(commit)
            if len(chunk) >= SWEEP_BATCH:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def _apply_missing(self, commits: Sequence[Commit]) -> int:
        streams = list({commit.stream for commit in commits})
        reached = await self._store.versions(self._projector.target, streams)
        behind = {c.stream for c in commits if c.last > reached.get(c.stream, 0)}
        return (await self._projector.apply_streams(behind)).events


def _without(batch: Batch, failure: StreamFailed) -> tuple[Batch, Batch]:
    """The batch without the failing stream, and that stream alone."""
    others = {stream: events for stream, events in batch.items() if stream != failure.stream}
    return others, {failure.stream: batch[failure.stream]}

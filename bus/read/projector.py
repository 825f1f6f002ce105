"""Projector: keeps one projection's documents equal to the fold of the log.

A stream's versions have no gaps, so each event is a duplicate, the next one, or too early; missing
ones are read from the log. The decision and the write are one transaction.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from bus.codec import envelopes_of
from bus.common import clock
from bus.common.fingerprint import failure_of
from bus.data.ids import category_of
from bus.errors import (
    EventMissing,
    MessageError,
    NewerMessage,
    ProjectionError,
    Unavailable,
    UnknownMessage,
    VersionUnusable,
)
from bus.messages import Envelope
from bus.observe.listeners import Signals
from bus.observe.log import Logger
from bus.observe.signals import BatchProjected, StreamReleased
from bus.read.fold import Applied, Batch, Fold, LogLacks, Spoiled, StreamFailed, age, first_of
from bus.read.foreign import OWN_ALONE, Foreign
from bus.read.parking import emit_parked
from bus.read.projection import Projection
from bus.stores.collections import Collections, Target, Writer
from bus.stores.control import Control, Parked
from bus.stores.event_log import Streams
from bus.transports.topology import DELAYS

LOOK_EVERY = 1.0
TROUBLE_AT = 10
"""If so many streams fail and none is applied, the projection is at fault, not the streams."""
WAITS = {error.__name__ for error in (EventMissing, UnknownMessage, NewerMessage)}
"""Errors of streams that may only need to wait."""

log = Logger("bus.projector")


class InTrouble(Unavailable):
    """Every stream fails at present: hold the batch, and try it again later."""


class Projector:
    """Applies events to one projection's documents, through one writer."""

    def __init__(
        self,
        projection: Projection[Any],
        target: Target,
        event_log: Streams,
        collections: Collections,
        control: Control,
        writer: Writer,
        foreign: Foreign = OWN_ALONE,
        *,
        known_names: Collection[str] | None = None,
        parks_all: bool = False,
        reports_parked: bool = True,
        guard: Callable[[], None] = lambda: None,
        handled: Callable[[], Awaitable[Collection[str]]] | None = None,
        release_within: float = 0.0,
        signals: Signals | None = None,
    ) -> None:
        """`known_names` are the events that this service has a class for; others are warned about
        (by default, none are). With `parks_all` every failing stream is parked, and never taken for
        a failing projection: for a collection that nobody reads. Without `reports_parked` it emits
        no signal for streams that it parks. `guard` raises while nothing may be applied. `handled`
        returns the events that any release of the code handles here: a stream waits
        `release_within` seconds for a release that can read it, then counts as failing."""
        self.projection = projection
        self.target = target
        self._registry = projection.registry()
        self._reads_documents = any(handler.is_async for handler in projection.handlers.values())
        self._log = event_log
        self._collections = collections
        self._control = control
        self._writer = writer
        self._foreign = foreign
        self._parked: dict[str, Parked] = {}
        self._failing: set[str] = set()
        self._parks_all = parks_all
        self._reports_parked = reports_parked
        self.guard = guard
        self._handled = handled
        self._release_within = release_within
        self.signals = signals or Signals()
        self._passed: set[str] = set()
        self._unreadable: dict[str, int] = {}
        self._look_at = 0.0
        self._oldest: datetime | None = None
        self.trouble: str | None = None
        self._known_names = known_names
        self.unknown: Counter[str] = Counter()
        """The number of events passed over, by name, that nobody in this service knows."""

    async def take_over(self) -> None:
        """Ends what a predecessor may have left open. Call it before the first batch."""
        await self._writer.take_over()
        await self.refresh()

    async def refresh(self) -> None:
        """Learns which streams are parked."""
        self._passed.clear()
        self._parked = {row.stream: row for row in await self._control.parked(self.target)}

    async def _learn(self, streams: Collection[str]) -> None:
        """Learns which of these streams are parked."""
        found = await self._control.parked(self.target, streams)
        for stream in streams:
            self._parked.pop(stream, None)
        self._parked |= {row.stream: row for row in found}

    async def apply(self, arrived: Iterable[Envelope]) -> Applied:
        """Applies what arrived, each event exactly once; parks streams that fail.

        Drops events of parked streams, because their retry reads the log.
        Raises: StoreUnavailable, OutcomeUnknown, InTrouble (applying the same again is safe).
        """
        batch: dict[str, list[Envelope]] = defaultdict(list)
        arrived = list(arrived)
        if known := {e.stream for e in arrived if e.stream in self._parked}:
            await self._learn(known)  # else what was unparked meanwhile would wait for a sweep
        for envelope in arrived:
            parked = self._parked.get(envelope.stream)
            if parked is None:
                batch[envelope.stream].append(envelope)
            elif parked.is_missed and parked.version == envelope.version:
                batch[envelope.stream] = []  # the missing event is in the log: read all from there
        began, self._oldest = time.monotonic(), None
        applied = await self._apply(batch) if batch else Applied()
        if BatchProjected in self.signals.wanted or applied.healed or applied.duplicates:
            seconds = time.monotonic() - began
            waited = age(self._oldest, self._control.now())
            applied.emit(self.signals, self.target, len(arrived), seconds, waited)
        return applied

    async def apply_streams(self, streams: Iterable[str]) -> Applied:
        """Applies what the log holds of these streams after the versions reached, except parked
        ones. Raises: what `apply` raises."""
        return await self._apply({stream: [] for stream in streams if stream not in self._parked})

    async def look(self) -> None:
        """Learns which streams are parked, at most once in LOOK_EVERY seconds."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            await self.refresh()

    def is_parked(self, stream: str) -> bool:
        """Returns whether a stream is parked, as far as is known here."""
        return stream in self._parked

    async def holds(self, stream: str, version: int) -> bool:
        """Returns whether the log holds an event; a stream parked at it needs no query."""
        parked = self._parked.get(stream)
        known = parked is not None and parked.version == version and parked.message
        return bool(known or await self.message_at(stream, version))

    @property
    def has_due(self) -> bool:
        """Whether a parked stream is due for another try."""
        return any(map(self._is_due, self._parked.values()))

    async def retry_parked(self, *, all: bool = False) -> list[str]:
        """Tries again each parked stream that is due, or all; returns those that were applied."""
        due = [row.stream for row in self._parked.values() if all or self._is_due(row)]
        for stream in due:
            await self._apply({stream: []})
        applied = [stream for stream in due if stream not in self._parked]
        for stream in applied:  # once more: what arrived before it was unparked was dropped
            await self._apply({stream: []})
        return applied

    async def lacks(self, name: str) -> bool:
        """Returns whether another release handles events of a name that has no handler here.

        A new name is looked up in the store: each process notes there which events it handles
        before it records any. Raises: StoreUnavailable.
        """
        if self._handled is None or name in self._passed:
            return False
        if name in await self._handled():
            return True
        self._passed.add(name)
        return False

    def count_unread(self, names: Mapping[str, int]) -> None:
        """Counts events that were passed over, and warns of names that nobody here knows: the first
        time, and whenever the number has one more digit."""
        if self._known_names is None:
            return
        for name in names.keys() - self._known_names:
            before = self.unknown[name]
            self.unknown[name] += names[name]
            if len(str(before)) < len(str(self.unknown[name])) or not before:
                log.warning(
                    "unknown_events_passed_over",
                    projection=self.projection.name,
                    message=name,
                    count=self.unknown[name],
                )

    async def close(self) -> None:
        await self._writer.close()

    async def _apply(self, batch: Batch) -> Applied:
        """Applies a batch at once; while in trouble, stream by stream until one is applied."""
        self.guard()
        done = Applied()
        while batch:
            now, batch = first_of(batch) if self.trouble else (batch, {})
            applied, failures = await self._transact(now)
            self._judge(applied, failures)
            for failure in failures[:1] if self.trouble else failures:
                await self._park(failure)
            if self._parked:
                await self._unpark(now.keys() - {failure.stream for failure in failures})
            if failures and self.trouble:
                raise InTrouble(f"projection {self.projection.name!r}: {self.trouble}")
            done += applied
        return done

    async def _transact(self, batch: Batch) -> tuple[Applied, list[StreamFailed]]:
        """Applies what it can of a batch; returns what was applied, and which streams failed."""
        fold = Fold(self.projection, self.from_log, self.lacks, batch)
        try:
            while True:
                with suppress(Spoiled):
                    await self._writer.transact(list(batch), fold, believed=self._believed(batch))
                    self.count_unread(fold.unread)
                    self._oldest = min(filter(None, (self._oldest, fold.oldest)), default=None)
                    return fold.applied, list(fold.failures.values())
        except ProjectionError as error:
            return await self._transact_each(batch, error)

    def _believed(self, batch: Batch) -> Mapping[str, int] | None:
        """Returns the versions that the streams are at if nothing was lost or repeated.

        Returns None if the batch does not show them, or if a handler reads documents: it might fail
        because what it reads is of another version than believed.
        """
        if self._reads_documents or not all(batch.values()):
            return None
        return {
            stream: min(envelope.version for envelope in events) - 1
            for stream, events in batch.items()
        }

    async def _transact_each(
        self, batch: Batch, error: ProjectionError
    ) -> tuple[Applied, list[StreamFailed]]:
        """Finds out stream by stream whose writes the store refused, because it does not say."""
        if len(batch) == 1:
            (stream,) = batch
            reached = await self._collections.versions(self.target, [stream])
            return Applied(), [StreamFailed(stream, reached.get(stream, 0) + 1, error)]
        done, failed = Applied(), list[StreamFailed]()
        for stream, events in batch.items():
            applied, failures = await self._transact({stream: events})
            done += applied
            failed += failures
        return done, failed

    def _judge(self, applied: Applied, failures: Sequence[StreamFailed]) -> None:
        """Distinguishes failing streams from a failing projection, which must not park them all."""
        if applied.streams:
            self._failing.clear()
            self.trouble = None
            return
        of_data = (EventMissing, LogLacks, UnknownMessage, VersionUnusable)
        failing = [failure for failure in failures if not isinstance(failure.cause, of_data)]
        self._failing |= {f.stream for f in failing if f.stream not in self._parked}
        if failing and len(self._failing) >= TROUBLE_AT and not self._parks_all:
            self.trouble = f"every stream fails, as with {failing[0]}"[:2000]

    async def _park(self, failure: StreamFailed) -> None:
        """Sets a stream aside. If an event of another service is missing, it only waits at first,
        and is tried again when that event comes or is late."""
        if failure.stream not in self._parked:
            await self._learn([failure.stream])  # parked elsewhere, its tries would begin anew
        last = self._parked.get(failure.stream)
        message = await self.message_at(failure.stream, failure.version)
        described = failure_of(failure.cause, message, self.projection.name)
        before = self._before(failure, described.error)
        now = self._control.now()
        first_seen = before.first_seen if before and before.first_seen else now
        patience = self._patience_with(failure.cause)
        waits = bool(patience) and now - first_seen < patience
        tries = 0 if waits else (before.tries if before else 0) + 1
        later = clock.jittered(DELAYS[min(tries, len(DELAYS)) - 1])
        # Another release's workers try at once what waits for one.
        wait = self._foreign.gap_within if described.error == EventMissing.__name__ else LOOK_EVERY
        if isinstance(failure.cause, UnknownMessage):
            self._unreadable[failure.stream] = failure.version
        parked = Parked(
            stream=failure.stream,
            version=failure.version,
            error=described.error,
            tries=tries,
            next_try=now + timedelta(seconds=wait if waits else later),
            message=message,
            reason=described.reason,
            frames=described.frames,
            fingerprint=described.fingerprint,
            first_seen=first_seen,
            last_seen=now,
        )
        await self._control.park(self.target, parked)
        if parked.is_missed and await self.message_at(parked.stream, parked.version):
            # It came before the row was there: nothing else would wake the stream until it is late.
            parked = parked._replace(next_try=now)
            await self._control.park(self.target, parked)
        self._parked[failure.stream] = parked
        if self._reports_parked:
            emit_parked(self.signals, self.target, parked, last)

    def _before(self, failure: StreamFailed, error: str) -> Parked | None:
        """Returns the stream's row, or None (begin anew) if what it waits for has changed."""
        before = self._parked.get(failure.stream)
        if before and not {before.error, error}.isdisjoint(WAITS):
            same = before.error == error and before.version == failure.version
            return before if same else None
        return before

    def _patience_with(self, cause: BaseException) -> timedelta:
        """Returns how long a missing event (before and after it is asked for), or a release of the
        code, is waited for."""
        if isinstance(cause, EventMissing):
            return timedelta(seconds=2 * self._foreign.gap_within)
        within = self._release_within if isinstance(cause, UnknownMessage) else 0.0
        return timedelta(seconds=within)

    async def message_at(self, stream: str, version: int) -> str:
        """Returns the name of a stream's event, or "" if the log does not hold it."""
        for commit in await self._log.read(stream, after=version - 1, limit=1):
            if commit.first <= version:
                return commit.events[version - commit.first].name
        return ""

    async def _unpark(self, streams: Iterable[str]) -> None:
        for stream in streams:
            if self._parked.pop(stream, None):
                await self._control.unpark(self.target, stream)
                self.signals.emit(StreamReleased, self.projection.name, stream)

    async def from_log(
        self, stream: str, version: int, arrived: Sequence[Envelope]
    ) -> list[Envelope]:
        """Returns the events that the log holds of a stream after a version.

        A place outside of the log's store keeps what a failure takes from the log: it gets what has
        arrived, which was durable before it was published, or what is durable now.
        Raises: StreamFailed if the log cannot be read as events, or lacks one before others that it
        holds or that have arrived.
        """
        found, reached = list[Envelope](), version
        newest = max((envelope.version for envelope in arrived), default=0)
        read = self._log.read if newest or not self.target.place else self._log.read_durable
        try:
            for commit in await read(stream, after=version):
                if self.target.place and 0 < newest < commit.first:
                    break
                if commit.first > reached + 1:
                    raise self._lacking(stream, reached + 1, found)
                for envelope in envelopes_of(commit, self._registry, after=reached):
                    found.append(envelope)
                    reached = envelope.version
        except MessageError as error:
            raise StreamFailed(stream, reached + 1, error, found) from error
        if reached < newest:
            raise self._lacking(stream, reached + 1, found)
        return found

    def _lacking(self, stream: str, version: int, before: Sequence[Envelope]) -> StreamFailed:
        missing = self._foreign.missing(category_of(stream), version)
        cause = missing or LogLacks("the log lacks this event")
        return StreamFailed(stream, version, cause, before)

    def _is_due(self, parked: Parked) -> bool:
        """Returns whether its time has come, or is too far off: then the clock was set back.

        What waits for another release, and was tried, is due when late: this code will not change.
        """
        now = self._control.now()
        if parked.awaits_release and self._unreadable.get(parked.stream) == parked.version:
            within = timedelta(seconds=self._release_within)
            return now - (parked.first_seen or now) > within
        left = (parked.next_try - now).total_seconds()
        delay = DELAYS[min(max(parked.tries, 1), len(DELAYS)) - 1]
        longest = 1.5 * (self._foreign.gap_within if parked.is_waiting else delay)
        return not 0 < left <= longest

"""Fold: computes what a batch of events changes, given the versions that its streams have reached.

Runs in a transaction, and may run several times. Knows no store.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from bus.codec import Unread
from bus.common.exceptions import judged, outage, own, reported
from bus.common.fingerprint import reason_of
from bus.common.tasks import end
from bus.errors import ProjectionError, UnknownMessage, VersionUnusable
from bus.messages import Envelope
from bus.observe.listeners import Signals
from bus.observe.signals import BatchProjected, Healed
from bus.read.projection import Projection
from bus.stores.collections import UNUSABLE, Changes, ReadUnit, Target, Write

Batch = Mapping[str, Sequence[Envelope]]
"""Events by stream, in any order; an empty sequence means whatever the log holds."""

FromLog = Callable[[str, int, Sequence[Envelope]], Awaitable[list[Envelope]]]
"""Returns a stream's events in the log after a version, at least those that have arrived."""

Lacks = Callable[[str], Awaitable[bool]]
"""Returns whether another release of the code handles events of a name that this one does not."""

READS_AT_ONCE = 16


def age(time: datetime | None, now: datetime) -> float:
    """Returns how many seconds ago a time was; 0 for none, or for one to come."""
    return 0.0 if time is None else max((now - time).total_seconds(), 0.0)


def first_of(batch: Batch) -> tuple[Batch, Batch]:
    """Splits a batch into its first stream's part and the rest."""
    first = next(iter(batch))
    return {first: batch[first]}, {stream: batch[stream] for stream in batch if stream != first}


class LogLacks(ProjectionError):
    """The log lacks an event before later ones that it holds or that have arrived. This is not the
    projection's fault, in however many streams."""


class StreamFailed(Exception):
    """An event of one stream cannot be applied; the batch's other streams can be."""

    def __init__(
        self, stream: str, version: int, cause: BaseException, before: Sequence[Envelope] = ()
    ) -> None:
        super().__init__(f"{stream}@{version}: {type(cause).__name__}: {reason_of(cause)}")
        self.before = before
        """The events before it, of those that were asked for."""
        self.stream = stream
        self.version = version
        self.cause = cause


class Applied(NamedTuple):
    """What became of a batch: the events applied (`healed`: those from the log), the duplicates
    dropped, and the streams that advanced without failing."""

    events: int = 0
    healed: int = 0
    duplicates: int = 0
    streams: int = 0

    def __add__(self, other: "Applied") -> "Applied":  # type: ignore[override]
        return Applied(*(a + b for a, b in zip(self, other, strict=True)))

    def emit(
        self, signals: Signals, target: Target, arrived: int, seconds: float, oldest: float
    ) -> None:
        """Emits BatchProjected, and Healed if there were gaps or duplicates."""
        signals.emit(
            BatchProjected,
            projection=target.projection,
            collection=target.collection,
            arrived=arrived,
            seconds=seconds,
            oldest=oldest,
            **self._asdict(),
        )
        if self.healed or self.duplicates:
            signals.emit(Healed, target.projection, **self._asdict())


class Spoiled(Exception):
    """A handler failed that may have written already: the transaction has to start again."""


class Fold:
    """What a transaction runs: takes the versions reached, returns the changes that a batch makes.

    If a stream fails, it keeps the events before the failing one, and goes on with other streams.
    """

    def __init__(
        self, projection: Projection[Any], from_log: FromLog, lacks: Lacks, batch: Batch
    ) -> None:
        self._projection = projection
        self._lacks = lacks
        self._from_log = from_log
        self._batch = batch
        self._spoiling: dict[str, StreamFailed] = {}
        """Failures before which a run stops: to repeat one would start it again for ever."""
        self.failures: dict[str, StreamFailed] = {}
        self.applied = Applied()
        self.oldest: datetime | None = None
        """When the oldest event was stored of those that were applied."""
        self.unread: Counter[str] = Counter()
        """The number of events passed over, by name: the projection has no handler of them."""

    async def __call__(self, unit: ReadUnit) -> Changes:
        # The store may run this again: what an earlier run noted would park streams that succeed.
        self.failures = dict(self._spoiling)
        self.unread.clear()
        writes: list[Write] = []
        versions: dict[str, int] = {}
        before = {stream: unit.versions.get(stream, 0) for stream in self._batch}
        if UNUSABLE in before.values():
            before = self._without_unusable(before)
        ordered = {
            stream: next_in_order(version, self._batch[stream])
            for stream, version in before.items()
        }
        healed = await self._healed(before, [s for s, events in ordered.items() if events is None])
        count = from_log = duplicates = 0
        self.oldest = None
        for stream, arrived in ordered.items():
            events = healed[stream] if arrived is None else arrived
            version = before[stream]
            reached = await self._fold(events, unit, writes) or version
            if reached > version:
                versions[stream] = reached
                if self.oldest is None or events[0].time < self.oldest:
                    self.oldest = events[0].time
            count += reached - version
            from_log += reached - version if stream in healed else 0
            duplicates += len(self._batch[stream]) - _fresh(self._batch[stream], version)
        streams = len(versions.keys() - self.failures.keys())
        self.applied = Applied(count, from_log, duplicates, streams)
        return Changes(writes, versions)

    def _without_unusable(self, before: Mapping[str, int]) -> dict[str, int]:
        """Leaves out, as failed, streams with an unusable version: their next event is unknown."""
        for stream, version in before.items():
            if version == UNUSABLE:
                cause = _unusable(self._projection, stream)
                self.failures[stream] = StreamFailed(stream, 0, cause)
        return {stream: version for stream, version in before.items() if version != UNUSABLE}

    async def _healed(
        self, before: Mapping[str, int], streams: Sequence[str]
    ) -> dict[str, Sequence[Envelope]]:
        """Reads from the log the events of streams that have a gap, up to a failing one.

        Reads concurrently: after an outage nearly every stream has a gap, and the longer this
        takes, the likelier another transaction is first.
        """
        if not streams:
            return {}
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def heal(stream: str, version: int) -> Sequence[Envelope]:
            try:
                async with turns:
                    return await self._from_log(stream, version, self._batch[stream])
            except StreamFailed as failure:
                self.failures[stream] = failure
                return failure.before

        reading = {stream: asyncio.create_task(heal(stream, before[stream])) for stream in streams}
        try:
            return dict(zip(reading, await asyncio.gather(*reading.values()), strict=True))
        finally:
            await end(reading.values())

    async def _fold(self, events: Sequence[Envelope], unit: ReadUnit, writes: list[Write]) -> int:
        """Adds what a stream's events change to `writes`, up to a failing event.

        Returns the version reached, or 0 if none was applied.
        """
        reached = 0
        for envelope in events:
            spoiling = self._spoiling.get(envelope.stream)
            if spoiling and envelope.version >= spoiling.version:
                break
            try:
                if type(envelope.message) is Unread:
                    await self._pass_over(envelope, envelope.message.name)
                else:
                    writes += await self._changes(envelope, unit)
            except StreamFailed as failure:
                self._note(failure, envelope)
                break
            reached = envelope.version
        return reached

    async def _pass_over(self, envelope: Envelope, name: str) -> None:
        if await self._lacks(name):
            cause = UnknownMessage(
                f"{name}: another release of the code has a handler of it in this projection, and "
                f"this one has none; it waits for a worker of that release. Where the handler was "
                f"removed on purpose, raise the projection's version=, or rebuild it"
            )
            raise StreamFailed(envelope.stream, envelope.version, cause)
        self.unread[name] += 1

    def _note(self, failure: StreamFailed, envelope: Envelope) -> None:
        """Notes a failure. Raises: Spoiled if the handler may have written before it failed.

        Such writes are in the transaction already: to go on would commit half of what an event
        changes. The next run stops before that event.
        """
        if self._projection.writes_itself(envelope):
            self._spoiling[failure.stream] = failure
            raise Spoiled
        self.failures[failure.stream] = failure

    async def _changes(self, envelope: Envelope, unit: ReadUnit) -> list[Write]:
        try:
            return await self._projection.changes(envelope, unit)
        except BaseException as error:
            if not own(error):
                raise
            if outage(error):  # else one outage would park every stream
                if isinstance(error, BaseExceptionGroup):
                    raise judged(error) from error
                raise
            raise StreamFailed(envelope.stream, envelope.version, _cause(error)) from error


def _unusable(projection: Projection[Any], stream: str) -> VersionUnusable:
    remedy = f"rebuild APP {projection.name}"
    if projection.target().versions_in_documents:
        remedy = f"refold APP {projection.name} --stream {stream}"
    return VersionUnusable(
        f"what is stored as its version is no whole number: somebody else has written it, and what "
        f"the document holds cannot be told; `bus projections {remedy}` puts it right"
    )


def _cause(error: BaseException) -> BaseException:
    if isinstance(error, asyncio.CancelledError):
        return ProjectionError("something that the handler awaited was cancelled")
    return reported(error)


def next_in_order(version: int, arrived: Sequence[Envelope]) -> list[Envelope] | None:
    """Returns what has arrived after a version, in order, or None if something is missing."""
    if len(arrived) == 1 and arrived[0].version == version + 1:  # nearly always
        return [arrived[0]]
    new = {envelope.version: envelope for envelope in arrived if envelope.version > version}
    if arrived and len(new) == max(new, default=version) - version:
        return [new[number] for number in sorted(new)]
    return None


def _fresh(arrived: Sequence[Envelope], version: int) -> int:
    """Counts the versions after this one that have arrived."""
    if len(arrived) == 1:
        return int(arrived[0].version > version)
    return len({envelope.version for envelope in arrived if envelope.version > version})

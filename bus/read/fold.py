"""Fold: what a batch of events changes, from the versions that its streams have reached.

Runs within a transaction, and may run several times. Knows no store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bus import ambient
from bus.errors import OutcomeUnknown, ProjectionError, Unavailable
from bus.messages import Envelope
from bus.read.projection import Projection
from bus.stores.base import Changes, ReadUnit, Write

Batch = Mapping[str, Sequence[Envelope]]
"""Events by stream, in any order; an empty sequence asks for whatever the log holds."""

EventsAfter = Callable[[str, int, Sequence[Envelope]], Awaitable[tuple[list[Envelope], bool]]]
"""The events of a stream beyond a version, without gaps, given what has arrived; and whether the
log was needed for them."""


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


class Spoiled(Exception):
    """A handler failed that may have written already: the transaction has to start again."""


class Fold:
    """What a transaction runs: from the versions reached to the changes that a batch makes.

    Of a stream that fails it keeps what precedes the failing event, and goes on with the others.
    """

    def __init__(
        self, projection: Projection[Any], events_after: EventsAfter, batch: Batch
    ) -> None:
        self._projection = projection
        self._events_after = events_after
        self._batch = batch
        self._spoiling: dict[str, StreamFailed] = {}
        self.failures: dict[str, StreamFailed] = {}
        self.applied = Applied()

    async def __call__(self, unit: ReadUnit) -> Changes:
        self.applied = Applied()
        self.failures = dict(self._spoiling)
        writes: list[Write] = []
        versions: dict[str, int] = {}
        for stream, arrived in self._batch.items():
            version = unit.versions.get(stream, 0)
            try:
                events, from_log = await self._events_after(stream, version, arrived)
            except StreamFailed as failure:
                self.failures[stream] = failure
                continue
            reached = await self._fold(events, unit, writes) or version
            if reached > version:
                versions[stream] = reached
            self._count(arrived, version, reached, from_log)
        return Changes(writes, versions)

    async def _fold(self, events: Sequence[Envelope], unit: ReadUnit, writes: list[Write]) -> int:
        """Adds what a stream's events change, up to a failing one; returns the version reached."""
        reached = 0
        for envelope in events:
            spoiling = self._spoiling.get(envelope.stream)
            if spoiling and envelope.version >= spoiling.version:
                break
            try:
                writes += await self._changes(envelope, unit)
            except StreamFailed as failure:
                self._note(failure, envelope)
                break
            reached = envelope.version
        return reached

    def _note(self, failure: StreamFailed, envelope: Envelope) -> None:
        if self._projection.writes_itself(envelope):
            self._spoiling[failure.stream] = failure
            raise Spoiled
        self.failures[failure.stream] = failure

    async def _changes(self, envelope: Envelope, unit: ReadUnit) -> list[Write]:
        try:
            return await self._projection.changes(envelope, unit)
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
        self, arrived: Sequence[Envelope], version: int, reached: int, from_log: bool
    ) -> None:
        fresh = {envelope.version for envelope in arrived if envelope.version > version}
        events = reached - version
        self.applied += Applied(events, events if from_log else 0, len(arrived) - len(fresh))

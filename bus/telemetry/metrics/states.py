"""States: what was last measured of the whole service, if this process is the one that measures.

Nothing is asked here, so that whoever reads it waits for nobody.
"""

import os
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from bus.observe import signals
from bus.observe.listeners import Signals
from bus.observe.signals import Signal
from bus.telemetry.metrics.tally import Labels, Numbers


class States:
    """The states of one service, and which of its partitions this process gets."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[tuple[str, Labels], float] = {}
        self._before: set[tuple[str, Labels]] = set()
        """What was measured in the round before this one, and not in this one yet."""
        self._partitions: dict[Labels, float] = {}
        self._measured_at: float | None = None
        self._failing: tuple[str, ...] = ()

    def listen(self, to: Signals) -> list[Callable[[], None]]:
        """Begins to listen; returns what ends that."""
        return [to.listen(kind, heard) for kind, heard in self._heard().items()]

    def read(self) -> Numbers:
        """Returns what is known."""
        with self._lock:
            found: Numbers = {}
            for (name, labels), value in self._values.items():
                found.setdefault(name, {})[labels] = value
            found["bus.partition.held"] = dict(self._partitions)
            if self._measured_at is not None:
                found["bus.facts.age"] = {(): time.monotonic() - self._measured_at}
            found["bus.facts.failing"] = {(part,): 1.0 for part in self._failing}
        return found

    def _heard(self) -> dict[type[Signal], Callable[..., None]]:
        return {
            signals.LagMeasured: self._lag,
            signals.BacklogMeasured: self._backlog,
            signals.QueueMeasured: self._queue,
            signals.LettersMeasured: self._letters,
            signals.BuildMeasured: self._build,
            signals.AuditKnown: self._audit,
            signals.PartitionHeld: self._partition,
            signals.StatesMeasured: self._round,
        }

    def _lag(self, of: signals.LagMeasured) -> None:
        self._set("bus.projection.lag", of.seconds, of.projection)
        self._set("bus.projection.lag.events", of.events, of.projection)
        self._set("bus.projection.lag.more", of.more, of.projection)
        self._set("bus.projection.parked", of.parked, of.projection, "")
        self._set("bus.projection.parked", of.waits_event, of.projection, "event")
        self._set("bus.projection.parked", of.waits_release, of.projection, "release")

    def _backlog(self, of: signals.BacklogMeasured) -> None:
        self._set("bus.unpublished", of.commits)
        self._set("bus.unpublished.age", of.seconds)

    def _queue(self, of: signals.QueueMeasured) -> None:
        self._set("bus.queue.messages", of.messages, of.queue)
        self._set("bus.queue.consumers", of.consumers, of.queue)
        self._set("bus.queue.consumers.expected", of.expected, of.queue)

    def _letters(self, of: signals.LettersMeasured) -> None:
        for queue, message, error, count in of.groups:
            self._set("bus.dead_letters", count, queue, message, error)

    def _build(self, of: signals.BuildMeasured) -> None:
        share = min(1.0, of.replayed / of.commits) if of.commits else 1.0
        self._set("bus.projection.build", share, of.projection, of.collection)
        self._set("bus.projection.build.commits", of.replayed, of.projection, of.collection)

    def _audit(self, of: signals.AuditKnown) -> None:
        self._set("bus.projection.audit.time", of.at, of.projection)
        self._set("bus.projection.audit.differences", of.differences, of.projection)

    def _partition(self, of: signals.PartitionHeld) -> None:
        with self._lock:
            self._partitions[of.projection, str(of.partition), str(os.getpid())] = float(of.held)

    def _round(self, of: signals.StatesMeasured) -> None:
        """Forgets what was not measured again; or all, if another process measures from now on."""
        with self._lock:
            gone = self._before if of.goes_on else list(self._values)
            for key in gone:
                del self._values[key]
            self._before = set(self._values)
            self._measured_at = time.monotonic() if of.goes_on else None
            self._failing = tuple(of.failing)

    def _set(self, metric: str, value: Any, *labels: str) -> None:
        with self._lock:
            self._values[metric, labels] = float(value)
            self._before.discard((metric, labels))

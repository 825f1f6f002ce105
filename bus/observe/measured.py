"""Measured: what all signals have, and the signals of states, which somebody measures now and then.

A state is of the whole service: how far a projection lags, how many messages wait in a queue. One
process measures them, every `BUS_FACTS_EVERY` seconds, while telemetry is on. Four signals are
about the process itself: its worker, its event loop, and its listeners.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Signal:
    """What all signals have: the service in which it happened."""

    name: ClassVar[str]
    service: str

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True, slots=True)
class LagMeasured(Signal):
    """How far a projection's collection is behind the log: `events`, of which the oldest has waited
    for `seconds`. `more`: there are more events than were looked at. `parked` streams stand aside
    for an error, others for another service's event (`waits_event`) or a release (`waits_release`).
    """

    projection: str
    collection: str
    events: int
    seconds: float
    more: bool
    parked: int
    waits_event: int
    waits_release: int


@dataclass(frozen=True, slots=True)
class BacklogMeasured(Signal):
    """How many stored commits the broker has not confirmed (or `more`), and since how many
    `seconds` the oldest of them waits."""

    commits: int
    seconds: float
    more: bool


@dataclass(frozen=True, slots=True)
class QueueMeasured(Signal):
    """How many messages a queue holds, how many consumers it has, and how many at least are
    `expected`."""

    queue: str
    messages: int
    consumers: int
    expected: int


@dataclass(frozen=True, slots=True)
class LettersMeasured(Signal):
    """The dead letters there are: of each of the largest `groups` its queue, message, error and
    count; those of all other groups are counted together, under "other"."""

    groups: Sequence[tuple[str, str, str, int]]


@dataclass(frozen=True, slots=True)
class BuildMeasured(Signal):
    """How far the build of a collection is: `replayed` of about `commits`."""

    projection: str
    collection: str
    replayed: int
    commits: int


@dataclass(frozen=True, slots=True)
class AuditKnown(Signal):
    """When a projection was last audited (`at`: Unix time, in seconds), and how many documents
    differ from the log: what the last whole audit left, or a sample since, if that is more."""

    projection: str
    at: float
    differences: int


@dataclass(frozen=True, slots=True)
class PartitionHeld(Signal):
    """Whether this process is the one that gets the messages of a projection's partition."""

    queue: str
    projection: str
    partition: int
    held: bool


@dataclass(frozen=True, slots=True)
class StatesMeasured(Signal):
    """This process has measured all states, in so many `seconds`, and goes on doing so; or it does
    so no longer (not `goes_on`): another one does. `failing` names what could not be measured."""

    goes_on: bool
    seconds: float
    failing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class WorkerStarted(Signal):
    """A worker has begun to consume."""

    subscriptions: Sequence[str]


@dataclass(frozen=True, slots=True)
class WorkerStopped(Signal):
    """A worker has stopped; `unfinished` of its duties (most are consumers) did not end in time."""

    unfinished: int


@dataclass(frozen=True, slots=True)
class LoopBlocked(Signal):
    """Something held up a worker's event loop for so many `seconds`, so that nothing else ran."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ListenerBehind(Signal):
    """A listener that is called `apart` is too slow: `dropped` signals were not given to it, since
    this was last said. It is said once a minute at most."""

    listener: str
    dropped: int

"""Signals: small records of what happens. Never a payload; times are in seconds, sizes in bytes.

`bus.listen(kind, listener)` has a function called with each record of a kind. The log is a
listener, too: `logged` says which signals become lines. Each has a stable `name`, made of its
class's: `command_handled`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bus.observe.measured import AuditKnown as AuditKnown
from bus.observe.measured import BacklogMeasured as BacklogMeasured
from bus.observe.measured import BuildMeasured as BuildMeasured
from bus.observe.measured import LagMeasured as LagMeasured
from bus.observe.measured import LettersMeasured as LettersMeasured
from bus.observe.measured import ListenerBehind as ListenerBehind
from bus.observe.measured import LoopBlocked as LoopBlocked
from bus.observe.measured import PartitionHeld as PartitionHeld
from bus.observe.measured import QueueMeasured as QueueMeasured
from bus.observe.measured import Signal as Signal
from bus.observe.measured import StatesMeasured as StatesMeasured
from bus.observe.measured import WorkerStarted as WorkerStarted
from bus.observe.measured import WorkerStopped as WorkerStopped

Outcome = Literal["done", "failed", "put_off"]
"""How a handler ended: it returned, it raised, or it asked for a later try (`Retry`)."""
Settling = Literal["done", "put_off", "given_up"]
"""What became of a message that a worker acknowledges."""


@dataclass(frozen=True, slots=True)
class HandlerRun(Signal):
    """One run of a handler, its middleware included. `handler` is its name; for an event, its
    subscription's. `error` is the type of what it raised. `attempt` counts a worker's tries.
    `runs` is more than 1 only for who makes do with a sample: how many runs it stands for."""

    message: str
    message_id: str
    correlation_id: str
    handler: str
    attempt: int
    seconds: float
    outcome: Outcome
    error: str = ""
    runs: int = 1


class CommandHandled(HandlerRun):
    """A command's handler has run, and what it did is stored, if it is `done`."""

    __slots__ = ()


class QueryAnswered(HandlerRun):
    """A query's handler has run."""

    __slots__ = ()


class EventHandled(HandlerRun):
    """A subscription's handler of an event has run."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CommandRepeated(Signal):
    """A command was repeated under its id, and answered from the log."""

    message: str
    message_id: str


@dataclass(frozen=True, slots=True)
class MessageFailed(Signal):
    """A handler failed that no worker ran: its caller gets the error."""

    message: str
    message_id: str
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Conflicted(Signal):
    """Another writer was first on a stream, for the `conflicts`th time: the handler runs again."""

    message: str
    message_id: str
    conflicts: int


@dataclass(frozen=True, slots=True)
class EventsStored(Signal):
    """What a handler recorded is in the log. `size` is that of the messages to publish. With a
    `Session`, `seconds` are those of the whole transaction, the handler's own work included."""

    message: str
    message_id: str
    commits: int
    events: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Published(Signal):
    """The broker has answered for a batch; `failed` messages wait in the log for the relay."""

    messages: int
    failed: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sent(Signal):
    """A command was put on the service's queue, or could not be (`error` is the type of what was
    raised). `answered`: it was a request, and `seconds` are those until its answer came."""

    message: str
    message_id: str
    answered: bool
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Received(Signal):
    """A worker has taken messages that arrived. `oldest` is how many seconds ago the oldest of them
    was made, but for those that were meant to wait, as retries are; None if all were. `redelivered`
    is how many had been delivered before."""

    queue: str
    messages: int
    size: int
    oldest: float | None
    redelivered: int


@dataclass(frozen=True, slots=True)
class Settled(Signal):
    """A worker has acknowledged messages: they are done with, put off to a later try, or given up
    (a dead letter, or refused)."""

    queue: str
    messages: int
    outcome: Settling


@dataclass(frozen=True, slots=True)
class Relayed(Signal):
    """The relay has published `commits`; `waiting` of its batch remain, `more` may follow it."""

    commits: int
    waiting: int
    seconds: float
    more: bool = False


@dataclass(frozen=True, slots=True)
class BatchProjected(Signal):
    """A projection has applied a batch that arrived (`arrived` events).

    `events` were applied to `streams`, `healed` of them read from the log because they had not
    arrived; `duplicates` had been applied before. `oldest` is how many seconds before that the
    oldest event was stored that was applied. What is read from the log stream by stream is in no
    batch: sweeps, retries of parked streams, repairs, and rebuilds and audits unless the versions
    stand in checkpoints."""

    projection: str
    collection: str
    arrived: int
    events: int
    healed: int
    duplicates: int
    streams: int
    seconds: float
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class Healed(Signal):
    """A batch had gaps, which were filled from the log, or events that had been applied before."""

    projection: str
    events: int
    healed: int
    duplicates: int
    streams: int


@dataclass(frozen=True, slots=True)
class Swept(Signal):
    """A sweep has found `missing` events, and applied them from the log."""

    projection: str
    collection: str
    missing: int


@dataclass(frozen=True, slots=True)
class StreamParked(Signal):
    """A projection has set a stream aside at the event `version`, or has tried it `again`.

    `waits_for` is "event" or "release" while it only waits for another service's event or for
    another release of the code, and "" if it cannot be applied.
    """

    projection: str
    stream: str
    version: int
    message: str
    error: str
    reason: str
    group: str
    letter: str
    tries: int
    next_try: str
    waits_for: Literal["", "event", "release"]
    again: bool


@dataclass(frozen=True, slots=True)
class StreamReleased(Signal):
    """A parked stream is applied again."""

    projection: str
    stream: str


@dataclass(frozen=True, slots=True)
class Retried(Signal):
    """A worker's try failed, and another one follows in `after` seconds: `in_place`, or through the
    broker. `is_last`: if that one fails as well, the message is given up."""

    queue: str
    message: str
    message_id: str
    attempt: int
    error: str
    reason: str
    raised_in: Sequence[str]
    after: float
    in_place: bool
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class PutOff(Signal):
    """A handler asked for a later try, which is not an error. A worker (of `queue`) makes it in
    `delay` seconds; without a worker, the caller gets the `Retry`."""

    queue: str
    message: str
    message_id: str
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class GaveUp(Signal):
    """A message has become a dead letter (`letter`); `group` is the fingerprint of its error."""

    queue: str
    message: str
    message_id: str
    error: str
    reason: str
    group: str
    letter: str
    attempts: int
    stream: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class LettersRepaired(Signal):
    """Dead letters were removed, because what they were about is done."""

    letters: Sequence[str]


@dataclass(frozen=True, slots=True)
class Refused(Signal):
    """`count` messages that are not this service's own were refused, and not kept one by one; the
    last of them was `message`."""

    queue: str
    count: int
    message: str
    message_id: str
    stream: str


@dataclass(frozen=True, slots=True)
class BuildBegun(Signal):
    """A collection is to be filled from the log, which has about `commits` for it."""

    projection: str
    collection: str
    commits: int


@dataclass(frozen=True, slots=True)
class Rebuilt(Signal):
    """A collection was filled from the log; each worker that took part emits this."""

    projection: str
    collection: str
    commits: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ReadersMoved(Signal):
    """Readers read this collection of the projection from now on."""

    projection: str
    to: str


@dataclass(frozen=True, slots=True)
class ReadersStayed(Signal):
    """A collection is built, but readers are not moved to it, for this `reason`."""

    projection: str
    built: str
    reason: str


@dataclass(frozen=True, slots=True)
class Repaired(Signal):
    """An audit has put a document right that was not as the log says; not `done` if it had changed
    meanwhile."""

    projection: str
    key: str
    kind: str
    done: bool


@dataclass(frozen=True, slots=True)
class ProjectionAudited(Signal):
    """An audit has compared `documents`; of so many `differences`, `repaired` are put right."""

    projection: str
    collection: str
    documents: int
    differences: int
    repaired: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Connected(Signal):
    """A connection to the broker is open; `purpose` is what it is used for."""

    purpose: str
    broker: str


@dataclass(frozen=True, slots=True)
class Disconnected(Signal):
    """A connection to the broker was lost, after `seconds`; it is tried again until one is open."""

    purpose: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerReopened(Signal):
    """The sentinel reopens a consumer: the broker has forgotten it (for the `round`th time), or
    messages are `waiting` and none arrives. The other one of the two is None."""

    queue: str
    why: Literal["forgotten", "stuck"]
    round: int | None = None
    waiting: int | None = None


KINDS: tuple[type[Signal], ...] = tuple(
    kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Signal) and kind not in (Signal, HandlerRun)
)
"""All kinds, without `Signal` and `HandlerRun`, which stand for several."""

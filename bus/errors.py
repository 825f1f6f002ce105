"""Everything the package raises, named by what to do next.

    BusError
    ├── ConfigurationError        correct the program or its settings, then start again
    │   └── TopologyMismatch      a queue or exchange exists with other properties
    ├── MessageError              never retried: the message itself is wrong
    │   ├── InvalidMessage        not JSON, wrong shape, too large, too deep
    │   │   └── IdConflict        its id was used before, for something else
    │   ├── UnknownMessage        a name that nobody here registered
    │   │   └── NewerMessage      a shape that only a later release of the code knows
    │   └── Reject                raised by a handler: give this message up
    ├── NoHandler                 nobody here handles this command or query
    ├── AggregateNotFound         the stream has no events
    ├── ConcurrencyError          somebody else wrote first: read again, then decide
    ├── OutcomeUnknown            no answer in time: repeat with the same id
    ├── ResultUnreadable          it was carried out, but another release wrote its result
    ├── RemoteError               a requested command failed where it was carried out
    ├── Unavailable               wait, then try again
    │   ├── StoreUnavailable      the database did not answer, or refused for now
    │   │   └── NotAllowed        it refuses this user: check rights and password; it is retried
    │   ├── TransportUnavailable  the broker did not answer, or refused for now
    │   ├── NotCaughtUp           a projection has not reached the receipt yet
    │   ├── NotBuilt              a projection, or the states of aggregates, are yet to be built
    │   └── Discontinued          the database was restored or lost data: recover, and work resumes
    ├── Unroutable                the broker knows no queue for this message
    ├── DeadLetterError           there is no such dead letter, or it needs another remedy
    ├── Retry                     raised by a handler: try this message again later
    └── ProjectionError           a projection's handler failed or returned an invalid change,
        │                         or the database refuses what a handler does in its session
        ├── EventMissing          an event of another service has not arrived
        └── VersionUnusable       what is stored as a stream's version is not a valid version

Domain errors are the author's own exceptions; they pass through the bus unchanged.
"""

from datetime import timedelta
from typing import Any

LONGEST = 1_000_000_000
"""Seconds: about 32 years."""


class BusError(Exception):
    """The root of all errors that the bus raises."""


class ConfigurationError(BusError):
    """The program or its settings are wrong; the message says what, where, and the remedy."""


class TopologyMismatch(ConfigurationError):
    """A queue or exchange of that name exists with other properties."""


class MessageError(BusError):
    """The message itself is wrong: trying again cannot help."""


class InvalidMessage(MessageError):
    """The body or the headers cannot be read as the message they claim to be."""


class IdConflict(InvalidMessage):
    """The message's id was used by another message: give each message its own id.

    What the first one stored stands; nothing was stored for this one.
    """


class UnknownMessage(MessageError):
    """A wire name that nobody registered here."""


class NewerMessage(UnknownMessage):
    """A known name, in a shape that only a later release of the code knows."""


class Reject(MessageError):
    """Raise it in a handler to give a message up at once, without retries."""


class NoHandler(BusError):
    """Nobody here handles this command or query."""


class AggregateNotFound(BusError):
    """The aggregate's stream holds no events."""


class ConcurrencyError(BusError):
    """The stream moved on since it was read."""


class OutcomeUnknown(BusError):
    """No answer came in time, so the command may or may not have run: repeat it with the same id.

    `id` is the id to repeat with, if the bus chose or knows it.
    """

    def __init__(self, *what: object, id: str = "") -> None:
        super().__init__(*what)
        self.id = id


class ResultUnreadable(BusError):
    """A command was carried out, but its stored result does not fit what its handler returns now.

    `receipt` (a `bus.Receipt`) has its id, its versions, and the result as JSON types.
    """

    def __init__(self, what: str, receipt: Any) -> None:
        super().__init__(what, receipt)
        self.receipt = receipt

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteError(BusError):
    """The handler of a requested command failed in another process; nothing was stored.

    `type` is the name of the error it raised, `reason` that error's text, `command` the command's
    name and id.
    """

    def __init__(self, type: str, reason: str, command: str = "") -> None:
        super().__init__(type, reason, command)
        self.type = type
        self.reason = reason
        self.command = command

    def __str__(self) -> str:
        what = f"{self.command or 'the command'}: its handler raised {self.type}: {self.reason}"
        return f"{what} (nothing was stored; its worker's log says where, at INFO)"


class Unavailable(BusError):
    """A server did not answer, or not yet; waiting helps."""


class StoreUnavailable(Unavailable):
    """The database did not answer in time, or accepts no writes; nothing was written."""


class NotAllowed(StoreUnavailable):
    """The database denies this user rights it needs; work resumes once they are granted.

    Opening a bus raises ConfigurationError instead.
    """


class TransportUnavailable(Unavailable):
    """The broker is away, blocked, or refused the message for now."""


class NotCaughtUp(Unavailable):
    """A projection did not reach the receipt's versions within the time given."""


class NotBuilt(Unavailable):
    """A projection is new to a service that has a history, and is being built from the log; or not
    every aggregate has its stored state yet."""


class Discontinued(Unavailable):
    """The database does not continue what it held: it was restored, or something was dropped."""


class Unroutable(BusError):
    """The broker knows no queue for a message that must have one."""


class DeadLetterError(BusError):
    """There is no such dead letter, or it cannot be repaired this way; the message says how."""


class Retry(BusError):
    """Raise it in a handler to try this message again after `delay` (seconds, or a timedelta).

    The delay is rounded up to 1, 5, 30, 120, 600 or 3600 seconds; longer ones become 3600. Each
    time it is raised, the message is delayed again, without limit.
    """

    def __init__(
        self, delay: float | timedelta, reason: str = "the handler asks for a later try"
    ) -> None:
        super().__init__(reason)
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        # Fails here, in the handler, and not where the worker waits.
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds <= LONGEST:
            raise ConfigurationError(
                f"Retry(): delay={delay!r:.100}: give seconds, 0 or more, {LONGEST:,} at most, as "
                f"a number or a timedelta"
            )
        self.delay = float(seconds)


class ProjectionError(BusError):
    """A projection's handler failed or returned an invalid change, or a session refuses a write."""


class EventMissing(ProjectionError):
    """An event of another service has not arrived; those after it wait."""


class VersionUnusable(ProjectionError):
    """What is stored as a stream's version is not a whole number; only a repair helps."""

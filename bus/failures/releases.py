"""Has messages that this release of the code cannot read wait for one that can, within bounds.

While two releases run side by side, each may get messages that only the other one knows. They go on
the delay ladder, repeatedly, until a worker takes them that can handle them.
"""

import time

from bus.codec import WAITED
from bus.errors import UnknownMessage
from bus.observe.log import Logger
from bus.transports.base import Frame
from bus.transports.topology import rung

LONGEST = 600
"""After how many seconds, at the latest, a worker tries it again."""
ASKED_FOR = 5
"""For how many seconds a command waits if its requester waits too."""
REPORTED_FOR = 3600.0

log = Logger("bus.releases")


def wait_of(frame: Frame, within: float) -> int:
    """Returns for how many seconds a message must wait (again) for a release that can read it; 0 if
    it has waited `within` seconds by now.

    It goes by the seconds waited, which travel with the message, not by times: clocks differ.
    """
    waited = waited_by(frame)
    if frame.reply_to:
        return 1 if waited < min(within, ASKED_FOR) else 0
    return rung(min(waited / 4, LONGEST)) if waited < within else 0


def waited_by(frame: Frame) -> int:
    """Returns for how many seconds a message has waited so far for a release that can read it."""
    waited = frame.headers.get(WAITED, 0)
    return waited if isinstance(waited, int) and waited > 0 else 0


def never_came(error: UnknownMessage, waited: int) -> UnknownMessage:
    """Returns the error of a message that has waited long enough."""
    return type(error)(
        f"{error}; no release that handles it was seen within {waited} s: start a worker of one "
        f"and retry it, or discard it; where its handler was removed on purpose, keep one that "
        f"does nothing for as long as such messages come"
    )


class Waiting:
    """The messages that one consumer saw wait for another release; logs each name once."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._seen: dict[str, float] = {}

    def note(self, name: str, error: UnknownMessage) -> None:
        """Notes that a message of that name waits."""
        if name not in self._seen:
            log.warning(
                "messages_await_release",
                queue=self._queue,
                message=name[:100],
                reason=str(error)[:500],
            )
        self._seen = dict(list(self._seen.items())[-99:]) | {name: time.monotonic()}

    @property
    def names(self) -> list[str]:
        """The names of messages that came within the last hour and wait."""
        now = time.monotonic()
        return sorted(name for name, at in self._seen.items() if now - at < REPORTED_FOR)

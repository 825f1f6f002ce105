"""Releases: what this release of the code cannot read waits for one that can, within bounds.

While two releases run side by side, either may be brought what only the other one knows. It goes on
the delay ladder, again and again: sooner or later a worker takes it that can handle it.
"""

import time

from bus.codec import WAITED
from bus.errors import UnknownMessage
from bus.observe.log import Logger
from bus.transports.base import Frame
from bus.transports.topology import rung

LONGEST = 600
"""Seconds after which it is tried once more, at the latest, by the worker that takes it then."""
ASKED_FOR = 5
"""Seconds that a command waits whose requester waits for it too."""
TOLD_FOR = 3600.0

log = Logger("bus.releases")


def wait_of(frame: Frame, within: float) -> int:
    """For how many seconds a message is to wait (once more) for a release that can read it; 0 where
    it has waited `within` seconds by now.

    It is told by what it has waited, not by times: clocks differ.
    """
    waited = waited_by(frame)
    if frame.reply_to:
        return 1 if waited < min(within, ASKED_FOR) else 0
    return rung(min(waited / 4, LONGEST)) if waited < within else 0


def waited_by(frame: Frame) -> int:
    """For how many seconds a message has waited so far for a release that can read it."""
    waited = frame.headers.get(WAITED, 0)
    return waited if isinstance(waited, int) and waited > 0 else 0


def never_came(error: UnknownMessage, waited: int) -> UnknownMessage:
    """The error of a message that has waited long enough."""
    return type(error)(
        f"{error}; no release that handles it was seen within {waited} s: start a worker of one "
        f"and retry it, or discard it; where its handler was removed on purpose, keep one that "
        f"does nothing for as long as such messages come"
    )


class Waiting:
    """What waits for another release, as one consumer sees it: told once for each name."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._seen: dict[str, float] = {}

    def note(self, name: str, error: UnknownMessage) -> None:
        """Notes that such a message waits."""
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
        """The names of what has come within the last hour and waits."""
        now = time.monotonic()
        return sorted(name for name, at in self._seen.items() if now - at < TOLD_FOR)

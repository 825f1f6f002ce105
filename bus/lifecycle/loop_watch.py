"""Watches the event loop: a handler that blocks it delays every other one, and heartbeats."""

import asyncio
import time

from bus.observe.health import Check
from bus.observe.listeners import Signals
from bus.observe.log import Logger
from bus.observe.signals import LoopBlocked

EVERY = 0.25
LATE = 1.0
COUNTED = 0.1
"""Seconds of delay from which a signal says so. Less is the system's own scheduling."""
REMEMBERED = 60.0

log = Logger("bus.loop")


class LoopWatch:
    """Notices if the loop was late by more than `late` seconds, and remembers it for a minute."""

    def __init__(self, *, late: float = LATE, signals: Signals | None = None) -> None:
        self._late = late
        self._signals = signals or Signals()
        self._delay = 0.0
        self._seen_at = 0.0

    @property
    def check(self) -> Check:
        return Check("event loop", self._was_late)

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            self._note(time.monotonic() - due)

    def _note(self, delay: float) -> None:
        if delay > COUNTED:
            self._signals.emit(LoopBlocked, delay)
        if delay > self._late:
            self._delay, self._seen_at = delay, time.monotonic()
            log.error("event_loop_blocked", seconds=round(delay, 1))

    async def _was_late(self) -> str | None:
        if not self._delay or time.monotonic() - self._seen_at > REMEMBERED:
            return None
        return f"something blocked it for {self._delay:.1f} s"

"""Time, ids and randomness under a test's control, through `bus.clock.source`."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from bus.common import clock

START = 1_767_225_600.0
"""2026-01-01, 00:00 UTC, in seconds: when held time begins."""

HASTE = 100

AnySource = TypeVar("AnySource", bound=clock.Source)


class HeldTime(clock.Source):
    """A clock that stands still until `advance`; ids and randomness follow from the seed."""

    def __init__(self, seed: int = 0, *, start: float = START) -> None:
        super().__init__()
        self.bits = random.Random(seed).getrandbits
        self._now = start

    def seconds(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves the clock, forward or back; it wakes up nobody who sleeps."""
        self._now += seconds


class FastTime(HeldTime):
    """A clock that runs a hundred times as fast, from wherever `advance` moves it.

    Pauses take a hundredth of their time. With another `speed`, the clock runs at that; pauses stay
    as short.
    """

    def __init__(self, seed: int = 0, *, speed: float = HASTE) -> None:
        super().__init__(seed)
        self._speed = speed
        self._began = time.monotonic()
        self._skipped = 0.0
        self._alarms: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = count()

    def advance(self, seconds: float) -> None:
        """Moves the clock, forward or back. What waits in `call_later` waits that much less, but,
        as with any timer, no longer when the clock moves back."""
        super().advance(seconds)
        self._skipped += max(0.0, seconds)
        for number, (due, _) in sorted(self._alarms.items(), key=lambda alarm: alarm[1][0]):
            if due <= self._passed():
                self._ring(number)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls once after a pause, which advancing the clock shortens."""
        number = next(self._numbers)
        self._alarms[number] = self._passed() + seconds, call
        asyncio.get_running_loop().call_later(seconds / HASTE, self._ring, number)

    def until_next(self) -> float | None:
        """Returns the seconds until the first of these calls; None if there is none."""
        first = min((due for due, _ in self._alarms.values()), default=None)
        return None if first is None else max(0.0, first - self._passed())

    def seconds(self) -> float:
        return super().seconds() + (time.monotonic() - self._began) * self._speed

    def elapsed(self) -> float:
        return super().elapsed() * HASTE

    def jittered(self, seconds: float) -> float:
        return super().jittered(seconds) / HASTE

    def _passed(self) -> float:
        return self.elapsed() + self._skipped

    def _ring(self, number: int) -> None:
        if alarm := self._alarms.pop(number, None):
            alarm[1]()


@contextmanager
def ambient_source(source: AnySource) -> Iterator[AnySource]:
    """Replaces the real clock and the real randomness by a source, for a while."""
    before, clock.source = clock.source, source
    try:
        yield source
    finally:
        clock.source = before

"""Time, ids and chance in a test's hands, through `bus.ambient.source`."""

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
    """Time stands still until `advance`; ids and chance follow from the seed."""

    def __init__(self, seed: int = 0, *, start: float = START) -> None:
        super().__init__()
        self.bits = random.Random(seed).getrandbits
        self._now = start

    def seconds(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves the clock, back too; nobody who sleeps wakes up by it."""
        self._now += seconds


class FastTime(HeldTime):
    """Time runs a hundred times as fast, from wherever `advance` moves it; pauses keep up.

    With another `speed` the clock keeps to that, and pauses are as short.
    """

    def __init__(self, seed: int = 0, *, speed: float = HASTE) -> None:
        super().__init__(seed)
        self._speed = speed
        self._began = time.monotonic()
        self._skipped = 0.0
        self._alarms: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = count()

    def advance(self, seconds: float) -> None:
        """Moves the clock, back too. What waits by `call_later` waits that much less; moved back,
        it waits no longer, as nobody's timers do."""
        super().advance(seconds)
        self._skipped += max(0.0, seconds)
        for number, (due, _) in sorted(self._alarms.items(), key=lambda one: one[1][0]):
            if due <= self._passed():
                self._ring(number)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls once after a pause, which the clock makes shorter when it is moved on."""
        number = next(self._numbers)
        self._alarms[number] = self._passed() + seconds, call
        asyncio.get_running_loop().call_later(seconds / HASTE, self._ring, number)

    def until_next(self) -> float | None:
        """Seconds until the first of these calls; None where there is none."""
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
    """Puts a source in the place of the real clock and the real chance, for a while."""
    before, clock.source = clock.source, source
    try:
        yield source
    finally:
        clock.source = before

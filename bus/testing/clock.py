"""Time, ids and chance in a test's hands, through `bus.ambient.source`."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from bus import ambient

START = 1_767_225_600.0
"""2026-01-01, 00:00 UTC, in seconds: when held time begins."""

HASTE = 100

AnySource = TypeVar("AnySource", bound=ambient.Source)


class HeldTime(ambient.Source):
    """Time stands still until `advance`; ids and chance follow from the seed."""

    def __init__(self, seed: int = 0, *, start: float = START) -> None:
        super().__init__()
        self._bits = random.Random(seed).getrandbits
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

    def seconds(self) -> float:
        return super().seconds() + (time.monotonic() - self._began) * self._speed

    def elapsed(self) -> float:
        return super().elapsed() * HASTE

    def jittered(self, seconds: float) -> float:
        return super().jittered(seconds) / HASTE


@contextmanager
def ambient_source(source: AnySource) -> Iterator[AnySource]:
    """Puts a source in the place of the real clock and the real chance, for a while."""
    before, ambient.source = ambient.source, source
    try:
        yield source
    finally:
        ambient.source = before

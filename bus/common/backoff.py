"""Backoff: pauses between tries, each twice as long as the one before it, up to a longest."""

import asyncio
from collections.abc import Iterator
from typing import Self

from bus.common import clock


class Backoff:
    """Pauses in seconds, each give or take a half, so that many who wait do not come back at once.

    `longest` is before that: a pause lasts half as long again at most.
    """

    def __init__(self, first: float = 0.1, longest: float = 1.0) -> None:
        self._first = first
        self._longest = longest
        self.reset()

    def reset(self) -> None:
        """Begins anew: the next pause is the first."""
        self._coming = self._first

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> float:
        pause = clock.jittered(self._coming)
        self._coming = doubled(self._coming, self._longest)
        return pause

    async def wait(self) -> None:
        """Takes the next pause."""
        await asyncio.sleep(next(self))


def pauses(first: float = 0.1, longest: float = 1.0) -> Iterator[float]:
    """Endless pauses as those of `Backoff`, and none above the longest."""
    return (min(pause, longest) for pause in Backoff(first, longest))


def doubled(pause: float, longest: float, times: int = 1) -> float:
    """A pause so many doublings later."""
    return min(pause * 2.0**times, longest)

"""What grows: objects counted by their type, on a loop whose clock runs fast."""

import asyncio
import gc
import selectors
from collections import Counter
from collections.abc import Mapping
from typing import Any

FAST = 20
"""Times as fast as the world: what waits for half a second is back after 25 milliseconds."""


class _Hurried(selectors.DefaultSelector):
    speed = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout and timeout / self.speed)


class FastLoop(asyncio.SelectorEventLoop):
    """Where it is told to hurry, it idles many times as often in the same time."""

    def __init__(self) -> None:
        self._hurried = _Hurried()
        self._since = self._before = super().time()
        super().__init__(self._hurried)

    def time(self) -> float:
        return self._before + (super().time() - self._since) * self._hurried.speed

    async def idle(self, seconds: float) -> None:
        """Sleeps for so many of its own seconds, which pass faster than others."""
        self._go(FAST)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._go(1)

    def _go(self, speed: float) -> None:
        self._before, self._since = self.time(), super().time()
        self._hurried.speed = speed


def objects() -> Counter[str]:
    """How many there are of each type, once all that can go is gone."""
    for _ in range(3):
        gc.collect()
    return Counter(_name(type(one)) for one in gc.get_objects())


def grown(before: Mapping[str, int], after: Mapping[str, int], *, at_least: int) -> dict[str, int]:
    """The types of which there are so many more."""
    more = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in more.items() if count >= at_least}


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"

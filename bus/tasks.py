"""Tasks: how those of our own go side by side, and how they end."""

import asyncio
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any


async def end(tasks: Iterable["asyncio.Task[Any]"], *, patience: float = 5.0) -> None:
    """Cancels tasks and waits for their end; cancels again whenever `patience` (seconds) ends.

    Once is not enough: drivers lose a cancellation now and then.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=patience)


SLICE = 0.5


class TurningTime:
    """As `asyncio.timeout`, but of time in which the loop turned.

        async with TurningTime(3.0): ...

    While something blocks the loop, nobody in it can get on: that time is nobody's. It counts in
    slices, of each no more than its length; and where the loop stood at the very end, what came
    meanwhile is taken in first.
    """

    __slots__ = ("_due", "_left", "_loop", "_spared", "_timeout", "_timer", "expired")

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._spared = False
        self.expired = False

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        await self._timeout.__aenter__()
        self._wait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _wait(self) -> None:
        self._due = self._loop.time() + min(self._left, SLICE)
        self._timer = self._loop.call_at(self._due, self._count)

    def _count(self) -> None:
        self._left -= SLICE
        stood = self._loop.time() - self._due > SLICE
        if self._left <= 0 and stood and not self._spared:
            self._spared, self._left = True, SLICE
        if self._left > 0:
            self._wait()
        else:
            self.expired = True
            self._timeout.reschedule(self._loop.time())


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Carries out all of it side by side; the first error ends the rest and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(tasks)

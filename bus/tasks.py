"""Tasks: how those of our own go side by side, and how they end."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
    meanwhile is taken in first. A slice at whose end somebody else is waited for (`others_time`)
    does not count either.
    """

    __slots__ = (
        "_due",
        "_left",
        "_loop",
        "_spared",
        "_timeout",
        "_timer",
        "_token",
        "expired",
        "waits_for_others",
    )

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._spared = False
        self.expired = False
        self.waits_for_others = 0

    async def __aenter__(self) -> None:
        self._token = _limit.set(self)
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
        _limit.reset(self._token)
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _wait(self) -> None:
        self._due = self._loop.time() + min(self._left, SLICE)
        self._timer = self._loop.call_at(self._due, self._count)

    def _count(self) -> None:
        if self.waits_for_others:
            self._wait()
            return
        self._left -= SLICE
        stood = self._loop.time() - self._due > SLICE
        if self._left <= 0 and stood and not self._spared:
            self._spared, self._left = True, SLICE
        if self._left > 0:
            self._wait()
        else:
            self.expired = True
            self._timeout.reschedule(self._loop.time())


_limit: ContextVar[TurningTime | None] = ContextVar("limit", default=None)


@contextmanager
def others_time() -> Iterator[None]:
    """Waits for somebody who has a time limit of his own: it does not count as the task's."""
    limit = _limit.get()
    if limit is None:
        yield
        return
    limit.waits_for_others += 1
    try:
        yield
    finally:
        limit.waits_for_others -= 1


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Carries out all of it side by side; the first error ends the rest and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(tasks)

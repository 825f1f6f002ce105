"""Carries out together what arrived together.

While one group is under way, the next builds up. No timers: what arrives alone is carried out at
once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bus.common import clock
from bus.common.tasks import apart
from bus.observe.log import Logger

log = Logger("bus.stores")


def resolve(waiting: "asyncio.Future[Any]", result: Any) -> None:
    """Gives a caller the result, if it still waits."""
    if not waiting.done():
        waiting.set_result(result)


def reject(waiting: "asyncio.Future[Any]", error: Exception) -> None:
    """Gives a caller the error, if it still waits."""
    if not waiting.done():
        waiting.set_exception(error)


class Grouping:
    """Calls `next_group` until it returns False, in one task of its own at a time."""

    def __init__(self, next_group: Callable[[], Awaitable[bool]]) -> None:
        self._next_group = next_group
        self._running = False
        self._tasks: set[asyncio.Task[None]] = set()

    def arrived(self) -> None:
        """Has what has arrived carried out: at once, or as the next group after one under way."""
        if not self._running:
            self._running = True
            task = apart(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Waits until what was begun is done, and its callers have their results."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # callers whose result has just been set run now

    async def _run(self) -> None:
        # Set here and not in a done-callback, which runs later: what arrived in between would wait
        # for ever.
        try:
            while await self._go_on():
                pass
        finally:
            self._running = False

    async def _go_on(self) -> bool:
        """Runs the next group. An error that ends one group (its callers have it) does not affect
        the groups after it."""
        try:
            return await self._next_group()
        except asyncio.CancelledError:
            if clock.is_cancelled():
                raise
        except Exception as error:
            log.error("group_failed", exc_info=error)
        return True

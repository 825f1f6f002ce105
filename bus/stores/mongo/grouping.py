"""Carries out together what arrived together.

While one group is under way the next builds up. No timers: what comes alone is carried out at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bus.common import clock
from bus.common.tasks import apart
from bus.observe.log import Logger

log = Logger("bus.stores")


def tell(waiting: "asyncio.Future[Any]", result: Any) -> None:
    """Gives a caller the result, if it still waits."""
    if not waiting.done():
        waiting.set_result(result)


def tell_error(waiting: "asyncio.Future[Any]", error: Exception) -> None:
    """Tells a caller why not, if it still waits."""
    if not waiting.done():
        waiting.set_exception(error)


class Grouping:
    """Calls `next_group` until it returns False, in one task of its own at a time."""

    def __init__(self, next_group: Callable[[], Awaitable[bool]]) -> None:
        self._next_group = next_group
        self._running = False
        self._tasks: set[asyncio.Task[None]] = set()

    def arrived(self) -> None:
        """Something waits to be carried out: it is part of the next group."""
        if not self._running:
            self._running = True
            task = apart(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Waits until what was begun is done, and those who wait for it know."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # they were told a moment ago, and have their turn

    async def _run(self) -> None:
        # The end is noted here and not by the task's own, of which the loop tells later: what came
        # in between would wait for ever.
        try:
            while await self._go_on():
                pass
        finally:
            self._running = False

    async def _go_on(self) -> bool:
        """What ended one group, which it was told, is nothing to those that came after it."""
        try:
            return await self._next_group()
        except asyncio.CancelledError:
            if clock.is_cancelled():
                raise
        except Exception as error:
            log.error("a group failed", exc_info=error)
        return True

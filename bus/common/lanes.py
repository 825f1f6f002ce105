"""Lanes: many things at once, but in order for each key."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from bus.common import clock
from bus.common.tasks import end

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """`concurrency` long-lived runners; items of one key are worked on one after the other."""

    def __init__(
        self,
        concurrency: int,
        work: Callable[[Item], Awaitable[None]],
        failed: Callable[[Exception], Awaitable[None]],
    ) -> None:
        """`failed` is told what ended a runner, which nothing should."""
        self._work = work
        self._failed = failed
        self._waiting: dict[str, deque[Item]] = {}
        self._ready: asyncio.Queue[str | None] = asyncio.Queue()
        self._runners = [asyncio.create_task(self._keep_on()) for _ in range(concurrency)]

    def put(self, key: str, item: Item) -> None:
        if key in self._waiting:
            self._waiting[key].append(item)
        else:
            self._waiting[key] = deque([item])
            self._ready.put_nowait(key)

    async def stop(self, timeout: float) -> None:
        """Finishes what is at hand; after `timeout` seconds cancels it. The rest is left."""
        while not self._ready.empty():
            self._ready.get_nowait()
        for _ in self._runners:
            self._ready.put_nowait(None)
        try:
            await asyncio.wait(self._runners, timeout=timeout)
        finally:  # also where the stopping itself was cancelled
            await end(self._runners)

    async def _keep_on(self) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            if clock.is_cancelled():
                raise
            await self._failed(RuntimeError("something that it awaited was cancelled"))
        except Exception as error:
            await self._failed(error)

    async def _run(self) -> None:
        while (key := await self._ready.get()) is not None:
            waiting = self._waiting[key]
            await self._work(waiting.popleft())
            if waiting:
                self._ready.put_nowait(key)
            else:
                del self._waiting[key]

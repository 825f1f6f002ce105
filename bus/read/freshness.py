"""Freshness: waits until projections include what a receipt tells of (read your writes)."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bus.errors import NotCaughtUp
from bus.messages import category_of
from bus.read.projection import Projection
from bus.stores.base import ReadStore, Target

SHORTEST_PAUSE = 0.003
LONGEST_PAUSE = 0.05


class Freshness:
    """Lets any number of callers wait; all who wait for one projection share one question."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store
        self._watches: dict[str, _Watch] = {}

    async def wait_for(
        self,
        projections: Sequence[Projection[Any]],
        versions: Mapping[str, int],
        timeout: float,
    ) -> None:
        """Returns once every projection has applied `versions` of the streams that feed it.

        `timeout` is in seconds, for all of them together. Raises: NotCaughtUp, StoreUnavailable.
        """
        deadline = time.monotonic() + timeout
        for projection in projections:
            wanted = {s: v for s, v in versions.items() if category_of(s) in projection.categories}
            if wanted:
                await self._watch(projection).reach(wanted, deadline - time.monotonic())

    async def close(self) -> None:
        for watch in self._watches.values():
            await watch.close()

    def _watch(self, projection: Projection[Any]) -> "_Watch":
        if projection.name not in self._watches:
            self._watches[projection.name] = _Watch(self._store, projection.target())
        return self._watches[projection.name]


class _Waiter:
    """What one caller still waits for, and how far that is."""

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self.wanted = wanted
        self.reached: Mapping[str, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def behind(self) -> str:
        reached = self.reached
        return ", ".join(f"{s} at {reached.get(s, 0)} of {v}" for s, v in self.wanted.items())

    def learn(self, reached: Mapping[str, int]) -> None:
        self.reached = reached
        self.wanted = {s: v for s, v in self.wanted.items() if reached.get(s, 0) < v}
        if not self.wanted and not self.done.done():
            self.done.set_result(None)


class _Watch:
    """One projection and those who wait for it; asks the store while there are any.

    It pauses at least twice as long as an answer took, so that waiting never keeps a busy store
    from getting on.
    """

    def __init__(self, store: ReadStore, target: Target) -> None:
        self._store = store
        self._target = target
        self._waiters: set[_Waiter] = set()
        self._joined = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    async def reach(self, wanted: Mapping[str, int], timeout: float) -> None:
        waiter = _Waiter(wanted)
        self._waiters.add(waiter)
        self._joined.set()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(timeout):
                await waiter.done
        except TimeoutError:
            raise NotCaughtUp(
                f"projection {self._target.projection!r} has not caught up in time: "
                f"{waiter.behind}; is a worker running, or is the stream parked?"
            ) from None
        finally:
            self._waiters.discard(waiter)

    async def close(self) -> None:
        if self._asking:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        pause = SHORTEST_PAUSE
        try:
            while self._waiters:
                pause = SHORTEST_PAUSE if self._joined.is_set() else min(pause * 2, LONGEST_PAUSE)
                self._joined.clear()
                began = time.monotonic()
                await self._ask_once()
                await self._rest(2 * (time.monotonic() - began), pause)
        except Exception as error:
            self._fail(error)
        finally:
            self._asking = None

    async def _ask_once(self) -> None:
        asking = list(self._waiters)
        streams = {stream for waiter in asking for stream in waiter.wanted}
        reached = await self._store.versions(self._target, list(streams))
        for waiter in asking:
            waiter.learn(reached)

    async def _rest(self, least: float, pause: float) -> None:
        """Rests `pause` seconds; a newcomer cuts that short, though not below `least`."""
        await asyncio.sleep(max(least, SHORTEST_PAUSE))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause - least):
                await self._joined.wait()

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(error)


async def wait_for(
    store: ReadStore,
    projections: Sequence[Projection[Any]],
    versions: Mapping[str, int],
    timeout: float,
) -> None:
    """As `Freshness.wait_for`, for one caller."""
    freshness = Freshness(store)
    try:
        await freshness.wait_for(projections, versions, timeout)
    finally:
        await freshness.close()

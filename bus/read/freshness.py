"""Freshness: waits until projections include what a receipt refers to (read your writes)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bus.common.tasks import TurningTime, apart, end
from bus.data.ids import category_of
from bus.errors import NotCaughtUp, StoreUnavailable
from bus.read.projection import Projection
from bus.stores.collections import Collections, Target

SHORTEST_PAUSE = 0.003
LONGEST_PAUSE = 0.05


TargetOf = Callable[[Projection[Any]], Awaitable[Target]]
"""Returns where readers find a projection's documents at present."""


class Freshness:
    """Lets any number of callers wait; those that wait for one projection share its queries."""

    def __init__(self, collections: Collections, target_of: TargetOf) -> None:
        self._collections = collections
        self._target_of = target_of
        self._watches: dict[str, _Watch] = {}

    async def wait_for(
        self,
        projections: Sequence[Projection[Any]],
        versions: Mapping[str, int],
        timeout: float,
    ) -> None:
        """Returns once every projection has applied `versions` of the streams that feed it.

        `timeout` is in seconds, for all projections together; with 0, each is asked once.
        Raises: NotCaughtUp, StoreUnavailable.
        """
        deadline = time.monotonic() + timeout
        for projection in projections:
            wanted = {s: v for s, v in versions.items() if category_of(s) in projection.categories}
            if wanted:
                left = deadline - time.monotonic()
                await self._watch(projection).reach(wanted, left, of=timeout)

    async def close(self) -> None:
        """Stops asking."""
        for watch in self._watches.values():
            await watch.close()

    def _watch(self, projection: Projection[Any]) -> "_Watch":
        if projection.name not in self._watches:
            self._watches[projection.name] = _Watch(self._collections, projection, self._target_of)
        return self._watches[projection.name]


class _Waiter:
    """The versions that one caller still waits for, since when, and those reached."""

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self.wanted = wanted
        self.since = time.monotonic()
        self.reached: Mapping[str, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def behind(self) -> str:
        reached = self.reached
        return ", ".join(
            f"version {v} of {s} is wanted, and it has {reached.get(s, 0)}"
            for s, v in self.wanted.items()
        )

    def learn(self, reached: Mapping[str, int]) -> None:
        self.reached = reached
        self.wanted = {s: v for s, v in self.wanted.items() if reached.get(s, 0) < v}
        if not self.wanted and not self.done.done():
            self.done.set_result(None)


class _Watch:
    """One projection and its waiters; asks the store while there are any.

    It asks about four times in the time that a wait usually takes: waits stay short if the
    projection is fast, and a busy store is not burdened further if it is slow.
    """

    def __init__(
        self, collections: Collections, projection: Projection[Any], target_of: TargetOf
    ) -> None:
        self._collections = collections
        self._projection = projection
        self._target_of = target_of
        self._waiters: set[_Waiter] = set()
        self._usual = SHORTEST_PAUSE
        self._asking: asyncio.Task[None] | None = None

    async def reach(self, wanted: Mapping[str, int], timeout: float, *, of: float) -> None:
        """Waits up to `timeout` seconds, what is left `of` the caller's; asks once if `of` is 0."""
        waiter = _Waiter(wanted)
        self._waiters.add(waiter)
        try:
            if not of:
                await self._ask_once()
                if waiter.wanted:
                    raise TimeoutError
                return
            if self._asking is None:
                self._asking = apart(self._ask())
            async with TurningTime(timeout):
                await waiter.done
        except TimeoutError:
            within = f" within {of:.3g} s" if of else ""
            raise NotCaughtUp(
                f"projection {self._projection.name!r} has not caught up{within}: "
                f"{waiter.behind}; is a worker running (bus worker), or did an event of the stream "
                f"fail there, so that it is parked (bus deadletters list)?"
            ) from None
        finally:
            self._waiters.discard(waiter)
        self._usual += (time.monotonic() - waiter.since - self._usual) / 10

    async def close(self) -> None:
        if self._asking:
            await end([self._asking])

    async def _ask(self) -> None:
        try:
            while self._waiters:
                await self._ask_once()
                if self._waiters:
                    await asyncio.sleep(self._pause())
        except asyncio.CancelledError:
            self._fail(StoreUnavailable("asking how far a projection is was cancelled; ask again"))
            raise
        except Exception as error:
            self._fail(error)
        finally:
            self._asking = None

    async def _ask_once(self) -> None:
        asking = list(self._waiters)
        streams = {stream for waiter in asking for stream in waiter.wanted}
        target = await self._target_of(self._projection)
        reached = await self._collections.versions(target, list(streams))
        for waiter in asking:
            waiter.learn(reached)

    def _pause(self) -> float:
        """Returns a quarter of the usual wait, or of the newest waiter's if that is longer."""
        newest = time.monotonic() - max(waiter.since for waiter in self._waiters)
        return min(max(self._usual / 4, newest / 4, SHORTEST_PAUSE), LONGEST_PAUSE)

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(error)


async def wait_for(
    collections: Collections,
    projections: Sequence[Projection[Any]],
    versions: Mapping[str, int],
    timeout: float,
) -> None:
    """Waits as `Freshness.wait_for`, for one caller, on the first collections of their versions."""

    async def target_of(projection: Projection[Any]) -> Target:
        return projection.target()

    freshness = Freshness(collections, target_of)
    try:
        await freshness.wait_for(projections, versions, timeout)
    finally:
        await freshness.close()

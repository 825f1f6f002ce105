"""Live: asks a query again whenever what it reads has changed.

Each watched projection has one feed, which its watchers share; it ends soon after the last of them
has left.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from bus.common import clock
from bus.common.exceptions import judged
from bus.common.fingerprint import reason_of
from bus.common.tasks import apart, end
from bus.errors import ConfigurationError, NotBuilt, StoreUnavailable
from bus.observe.log import Logger
from bus.observe.loops import Loops
from bus.read.projection import Projection
from bus.stores.collections import ChangeFeed, Collections, Target, Watchable, needed

Answer = TypeVar("Answer")

TargetOf = Callable[[Projection[Any]], Awaitable[Target]]

PAUSE = 0.1
"""Seconds between two answers of one watcher, and between two looks at one feed."""
AGAIN = 0.5
"""Seconds, about, until a store that is unavailable is tried again."""

log = Logger("bus.live")


class Live:
    """Watches projections for any number of watchers."""

    def __init__(
        self, collections: Collections, target_of: TargetOf, loops: Loops | None = None
    ) -> None:
        self._collections = collections
        self._target_of = target_of
        self._loops = loops or Loops()
        self._bells: dict[str, _Bell] = {}
        self._ringing: set[asyncio.Task[None]] = set()

    async def answers(
        self,
        projections: Sequence[Projection[Any]],
        ask: Callable[[], Awaitable[Answer]],
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[Answer, None]:
        """Yields the answer, then each that differs from the last; outages only delay them. Waits
        for `first`, if given, before it asks.

        They end when this is closed. Raises: whatever `ask` raises, except StoreUnavailable;
        NotBuilt, ConfigurationError.
        """
        if first is not None:
            await first()
        with self._watching(projections) as watcher:
            last: list[Answer] = []
            while await watcher.time_to_look():
                try:
                    answer = await ask()
                except (StoreUnavailable, ExceptionGroup) as error:
                    if not isinstance(judged(error), StoreUnavailable):
                        raise
                    log.warning("watch_held_up", reason=reason_of(error))
                    await watcher.look_again()
                    continue
                if last != [answer]:
                    last = [answer]
                    yield answer

    def watchable(self, projection: Projection[Any]) -> Watchable:
        """Returns the place of its documents.

        Raises: ConfigurationError if that place reports no changes.
        """
        place: Watchable = needed(
            self._collections,
            Watchable,
            target=projection.target(),
            what="watch()",
            remedy="ask with query() now and then",
        )
        return place

    async def close(self) -> None:
        """Ends the feeds, and thereby all answers."""
        for bell in self._bells.values():
            bell.end()
        await end(self._ringing)

    @contextmanager
    def _watching(self, projections: Sequence[Projection[Any]]) -> "Iterator[_Watcher]":
        watcher = _Watcher([self._bell(projection) for projection in projections])
        try:
            yield watcher
        finally:
            watcher.leave()

    def _bell(self, projection: Projection[Any]) -> "_Bell":
        watchable = self.watchable(projection)
        bell = self._bells.get(projection.name)
        if bell is None or bell.ended:
            bell = self._bells[projection.name] = _Bell(
                watchable, projection, self._target_of, self._loops
            )
            task = apart(bell.ring())
            self._ringing.add(task)
            task.add_done_callback(self._ringing.discard)
        return bell


class _Bell:
    """Wakes the watchers of one projection when the documents that readers read have changed."""

    def __init__(
        self,
        watchable: Watchable,
        projection: Projection[Any],
        target_of: TargetOf,
        loops: Loops,
    ) -> None:
        self.listens = False
        """Whether every change from now on wakes the watchers."""
        self.ended = False
        self.failure: Exception | None = None
        self.watchers: set[_Watcher] = set()
        self._watchable = watchable
        self._projection = projection
        self._target_of = target_of
        self._loops = loops
        self._feed: ChangeFeed | None = None
        self._target: Target | None = None

    async def ring(self) -> None:
        """Rings as long as there are watchers."""
        name = f"changes of {self._projection.name}"
        try:
            while self.watchers and not self.ended:
                if not await self._loops.turn(name, self._ring_once, otherwise=False):
                    await asyncio.sleep(clock.jittered(AGAIN))
        finally:
            self.end()
            self._loops.forget(name)
            if self._feed is not None:
                await self._feed.close()

    def end(self) -> None:
        """Ends it for all watchers; later ones need another bell."""
        self.ended = True
        self._wake()

    async def _ring_once(self) -> bool:
        try:
            feed = await self._follow()
            if await feed.changed():
                self.listens = True
                self._wake()
                await asyncio.sleep(PAUSE)
        except (NotBuilt, ConfigurationError) as error:
            self.failure = error
            self.end()
        return True

    async def _follow(self) -> ChangeFeed:
        """Returns the feed of the collection that readers read at present."""
        target = await self._target_of(self._projection)
        if self._feed is None or target != self._target:
            if self._feed is not None:
                await self._feed.close()
            self._feed, self._target = self._watchable.changes(target), target
        return self._feed

    def _wake(self) -> None:
        for watcher in self.watchers:
            watcher.news.set()


class _Watcher:
    """Asks again when a bell rings, but not too often."""

    def __init__(self, bells: Sequence[_Bell]) -> None:
        self.news = asyncio.Event()
        self._bells = bells
        self._not_before = 0.0
        for bell in bells:
            bell.watchers.add(self)
        self.news.set()

    async def time_to_look(self) -> bool:
        """Waits for news, and until no further change can be missed; returns False at the end.

        Raises: the error that ended a bell.
        """
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
        while True:
            await self.news.wait()
            self.news.clear()
            for bell in self._bells:
                if bell.failure is not None:
                    raise bell.failure
                if bell.ended:
                    return False
            if all(bell.listens for bell in self._bells):
                self._not_before = time.monotonic() + PAUSE
                return True

    async def look_again(self) -> None:
        """Has it ask again after a pause, whether there is news or not."""
        await asyncio.sleep(clock.jittered(AGAIN))
        self.news.set()

    def leave(self) -> None:
        for bell in self._bells:
            bell.watchers.discard(self)

"""Changes of read collections in memory: who listens, and how they are told."""

import asyncio

from bus.common.tasks import Home

WAIT = 1.0


class Listeners:
    """Feeds that are open, by the collection whose changes they tell."""

    def __init__(self) -> None:
        self._feeds: dict[str, set[MemoryChangeFeed]] = {}

    def tell(self, collection: str) -> None:
        """Its documents have changed."""
        for feed in list(self._feeds.get(collection, ())):
            feed.tell()

    def add(self, feed: "MemoryChangeFeed") -> None:
        self._feeds.setdefault(feed.collection, set()).add(feed)

    def remove(self, feed: "MemoryChangeFeed") -> None:
        self._feeds.get(feed.collection, set()).discard(feed)


class MemoryChangeFeed:
    """Tells changes from its first call on."""

    def __init__(self, listeners: Listeners, collection: str) -> None:
        self.collection = collection
        self._news = asyncio.Event()
        self._listeners = listeners
        self._home: Home | None = None

    async def changed(self) -> bool:
        """As `ChangeFeed.changed`."""
        if self._home is None:
            self._home = Home()
            self._listeners.add(self)
            return True
        try:
            async with asyncio.timeout(WAIT):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def tell(self) -> None:
        """There is news, from whichever thread."""
        if self._home is not None:
            self._home.call(self._news.set)

    async def close(self) -> None:
        """As `ChangeFeed.close`."""
        self._listeners.remove(self)

"""Changes of read collections in memory: who listens, and how they are told."""

import asyncio

WAIT = 1.0


class Listeners:
    """Feeds that are open, by the collection whose changes they tell."""

    def __init__(self) -> None:
        self._feeds: dict[str, set[MemoryChangeFeed]] = {}

    def tell(self, collection: str) -> None:
        """Its documents have changed."""
        for feed in self._feeds.get(collection, ()):
            feed.news.set()

    def add(self, feed: "MemoryChangeFeed") -> None:
        self._feeds.setdefault(feed.collection, set()).add(feed)

    def remove(self, feed: "MemoryChangeFeed") -> None:
        self._feeds.get(feed.collection, set()).discard(feed)


class MemoryChangeFeed:
    """Tells changes from its first call on."""

    def __init__(self, listeners: Listeners, collection: str) -> None:
        self.collection = collection
        self.news = asyncio.Event()
        self._listeners = listeners
        self._listens = False

    async def changed(self) -> bool:
        """As `ChangeFeed.changed`."""
        if not self._listens:
            self._listens = True
            self._listeners.add(self)
            return True
        try:
            async with asyncio.timeout(WAIT):
                await self.news.wait()
        except TimeoutError:
            return False
        self.news.clear()
        return True

    async def close(self) -> None:
        """As `ChangeFeed.close`."""
        self._listeners.remove(self)

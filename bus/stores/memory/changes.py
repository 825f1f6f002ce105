"""Feeds of changes of read collections, in memory."""

import asyncio

from bus.common.tasks import Home
from bus.stores.collections import ChangeFeed

WAIT = 1.0


class Listeners:
    """The open feeds, by collection."""

    def __init__(self) -> None:
        self._feeds: dict[str, set[MemoryChangeFeed]] = {}

    def notify(self, collection: str) -> None:
        """Notifies the feeds of a collection whose documents have changed."""
        for feed in list(self._feeds.get(collection, ())):
            feed.notify()

    def add(self, feed: "MemoryChangeFeed") -> None:
        self._feeds.setdefault(feed.collection, set()).add(feed)

    def remove(self, feed: "MemoryChangeFeed") -> None:
        self._feeds.get(feed.collection, set()).discard(feed)


class MemoryChangeFeed(ChangeFeed):
    """Reports changes from its first call on."""

    def __init__(self, listeners: Listeners, collection: str) -> None:
        self.collection = collection
        self._news = asyncio.Event()
        self._listeners = listeners
        self._home: Home | None = None

    async def changed(self) -> bool:
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

    def notify(self) -> None:
        """Notes a change; may be called from any thread."""
        if self._home is not None:
            self._home.call(self._news.set)

    async def close(self) -> None:
        self._listeners.remove(self)

"""One log to read for all categories: those of a service, and its copy of those it follows."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime

from bus.data.ids import category_of
from bus.stores.event_log import (
    Commit,
    ReadableLog,
)


class RoutedLog(ReadableLog):
    """Reads each category from the log that holds it. The logs' owners open and close them."""

    def __init__(self, own: ReadableLog, followed: ReadableLog, foreign: Collection[str]) -> None:
        self._own = own
        self._followed = followed
        self._foreign = frozenset(foreign)

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        return await self._log_of(category_of(stream)).read(stream, after, limit)

    async def read_durable(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        return await self._log_of(category_of(stream)).read_durable(stream, after, limit)

    async def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        """Merges both logs in one order; otherwise as `ReadableLog.scan` says."""
        scans = [log.scan(names, since) for log, names in self._divided(categories)]
        heads = [(await anext(scan, None), scan) for scan in scans]
        while waiting := [(commit, scan) for commit, scan in heads if commit is not None]:
            first, scan = min(waiting, key=lambda head: (head[0].time, head[0].first))
            yield first
            heads = [head for head in waiting if head[1] is not scan]
            heads.append((await anext(scan, None), scan))

    async def arrived(
        self,
        categories: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Commit]:
        for log, names in self._divided(categories):
            async for commit in log.arrived(names, since, until):
                yield commit

    def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        return self._log_of(category).scan_streams(category, after, until)

    async def split(self, category: str, parts: int) -> list[str]:
        return await self._log_of(category).split(category, parts)

    async def count(self, categories: Sequence[str]) -> int:
        return sum([await log.count(names) for log, names in self._divided(categories)])

    async def settled(self) -> datetime:
        return min(await self._own.settled(), await self._followed.settled())

    def _log_of(self, category: str) -> ReadableLog:
        return self._followed if category in self._foreign else self._own

    def _divided(self, categories: Sequence[str]) -> list[tuple[ReadableLog, list[str]]]:
        """Returns the logs that hold these categories, each with its own."""
        followed = [name for name in categories if name in self._foreign]
        own = [name for name in categories if name not in self._foreign]
        logs = (self._own, own), (self._followed, followed)
        return [(log, names) for log, names in logs if names]

"""One log to read for all categories: a service's own, and its copy of those that it follows."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime

from bus.data.ids import category_of
from bus.stores.event_log import Commit, ReadableLog


class RoutedLog:
    """Reads each category where its commits are. Both logs are their owners' to open and close."""

    def __init__(self, own: ReadableLog, followed: ReadableLog, foreign: Collection[str]) -> None:
        self._own = own
        self._followed = followed
        self._foreign = frozenset(foreign)

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        """As `ReadableLog.read`."""
        return await self._log_of(category_of(stream)).read(stream, after, limit)

    async def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        """As `ReadableLog.scan`: both logs in one order."""
        scans = [log.scan(some, since) for log, some in self._divided(categories)]
        heads = [(await anext(scan, None), scan) for scan in scans]
        while waiting := [(one, scan) for one, scan in heads if one is not None]:
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
        """As `ReadableLog.arrived`."""
        for log, some in self._divided(categories):
            async for commit in log.arrived(some, since, until):
                yield commit

    def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        """As `ReadableLog.scan_streams`."""
        return self._log_of(category).scan_streams(category, after, until)

    async def split(self, category: str, parts: int) -> list[str]:
        """As `ReadableLog.split`."""
        return await self._log_of(category).split(category, parts)

    async def count(self, categories: Sequence[str]) -> int:
        """As `ReadableLog.count`."""
        return sum([await log.count(some) for log, some in self._divided(categories)])

    def _log_of(self, category: str) -> ReadableLog:
        return self._followed if category in self._foreign else self._own

    def _divided(self, categories: Sequence[str]) -> list[tuple[ReadableLog, list[str]]]:
        """The logs that are asked for, each with its categories."""
        followed = [one for one in categories if one in self._foreign]
        own = [one for one in categories if one not in self._foreign]
        return [(log, some) for log, some in ((self._own, own), (self._followed, followed)) if some]

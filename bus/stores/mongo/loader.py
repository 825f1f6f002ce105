"""Loads aggregates' events: those that are asked for together share one query.

A long stream is read page by page, so that it is never held whole.
"""

from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from bus.common.tasks import OthersTime
from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.event_log import Recorded
from bus.stores.mongo.client import Collection
from bus.stores.mongo.failures import reading
from bus.stores.mongo.places import gone
from bus.stores.mongo.shared_reads import Read, SharedReads

COMMITS_AT_ONCE, COMMITS_AT_A_TIME = 300, 30
"""So many are fetched at once, and made into events at a time. What is held grows with both, and
what is held is gone through by the garbage collector again and again."""

NO_SUCH_INDEX = 2
"""The code of an error that says so of a hint, among others."""

FIELDS = {"_id": 0, "stream": 1, "first": 1, "events": 1}
ASCENDING = [("stream", 1), ("first", 1)]
DESCENDING = [("stream", -1), ("first", -1)]

Page = list[Document]
"""Commits of one stream, in order, with its FIELDS alone."""


class Loader:
    """Reads streams. Cancelling a caller disturbs no other."""

    def __init__(self, commits: Collection) -> None:
        self._commits = commits
        self._first_pages = SharedReads(self._load)

    async def events(
        self, stream: str, after: int
    ) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """As `EventLog.events`. Reads no more of a commit than is asked for."""
        page = await self._first_page(stream, after)
        while page:
            for start in range(0, len(page), COMMITS_AT_A_TIME):
                yield _events_in(page[start : start + COMMITS_AT_A_TIME], after)
            if len(page) < COMMITS_AT_ONCE:
                return
            page = await self._page({"stream": stream, "first": {"$gt": page[-1]["first"]}})

    async def close(self) -> None:
        """Waits until what was begun is read."""
        await self._first_pages.close()

    async def _first_page(self, stream: str, after: int) -> Page:
        """The page that holds version `after + 1`, which may stand within a commit."""
        with OthersTime():
            page: Page = await self._first_pages.read(stream, after)
        if after and (not page or page[0]["first"] > after + 1):
            earlier = {"stream": stream, "first": {"$lt": after}}
            page = await self._page(earlier, DESCENDING, 1) + page
        return page

    async def _page(
        self, filter: Any, order: Any = ASCENDING, limit: int = COMMITS_AT_ONCE
    ) -> Page:
        try:
            async with reading():
                found = self._commits.find(filter, FIELDS).sort(order).limit(limit).hint(ASCENDING)
                page: Page = await found.batch_size(limit).to_list(None)
                return page
        except StoreUnavailable as error:
            if getattr(error.__cause__, "code", None) == NO_SUCH_INDEX:
                raise StoreUnavailable(gone(self._commits.name)) from error
            raise

    async def _load(self, group: Sequence[Read]) -> None:
        """Gives each its page. A query that ends within a stream starts the next with it."""
        while group:
            commits = await self._page(_all_of(group))
            pages = {stream: list(page) for stream, page in groupby(commits, itemgetter("stream"))}
            whole = len(commits) < COMMITS_AT_ONCE
            if not whole and len(pages) > 1:
                del pages[commits[-1]["stream"]]
            told = len(group) if whole else _index_of(list(pages)[-1], group) + 1
            for read in group[:told]:
                read.answer(pages.get(read.stream, []))
            group = group[told:]


def _all_of(group: Sequence[Read]) -> Document:
    """Selects what the group reads: `$in` where it can, which takes half as long as `$or`."""
    whole = [read.stream for read in group if not read.after]
    parts: list[Document] = [
        {"stream": read.stream, "first": {"$gte": read.after}} for read in group if read.after
    ]
    if whole:
        parts.append({"stream": {"$in": whole}})
    return parts[0] if len(parts) == 1 else {"$or": parts}


def _index_of(stream: str, group: Sequence[Read]) -> int:
    return next(index for index, read in enumerate(group) if read.stream == stream)


def _events_in(commits: Sequence[Document], after: int) -> list[tuple[int, Recorded]]:
    return [
        (version, Recorded(event["name"], event["schema"], event["data"]))
        for commit in commits
        for version, event in enumerate(commit["events"], commit["first"])
        if version > after
    ]

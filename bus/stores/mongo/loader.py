"""Loads aggregates' events: reads that arrive together share one query.

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
from bus.stores.together.shared_reads import Read, SharedReads

COMMITS_AT_ONCE, COMMITS_AT_A_TIME = 300, 30
"""How many commits are fetched at once, and how many of them are made into events at a time. What
is held grows with both, and the garbage collector goes through it again and again."""

NO_SUCH_INDEX = 2
"""The error code for a hint that names no index (and for other errors)."""

FIELDS = {"_id": 0, "stream": 1, "first": 1, "events": 1}
ASCENDING = [("stream", 1), ("first", 1)]
DESCENDING = [("stream", -1), ("first", -1)]

Page = list[Document]
"""Commits of one stream, in order, with only FIELDS."""


class Loader:
    """Reads streams. Cancelling a caller affects no other."""

    def __init__(self, commits: Collection) -> None:
        self._commits = commits
        self._first_pages = SharedReads(self._load)

    async def events(
        self, stream: str, after: int
    ) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """Yields pages of events for `EventLog.events`; reads only what it needs of a commit."""
        page = await self._first_page(stream, after)
        while page:
            for start in range(0, len(page), COMMITS_AT_A_TIME):
                yield _events_in(page[start : start + COMMITS_AT_A_TIME], after)
            if len(page) < COMMITS_AT_ONCE:
                return
            page = await self._page({"stream": stream, "first": {"$gt": page[-1]["first"]}})

    async def close(self) -> None:
        """Waits until reads that were begun are done."""
        await self._first_pages.close()

    async def _first_page(self, stream: str, after: int) -> Page:
        """Returns the page with version `after + 1`, which may be in the middle of a commit."""
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
        """Gives each read its page. If a query's limit cuts a stream off, the next query starts
        with that stream."""
        while group:
            commits = await self._page(_all_of(group))
            pages = {stream: list(page) for stream, page in groupby(commits, itemgetter("stream"))}
            whole = len(commits) < COMMITS_AT_ONCE
            # The last stream may be incomplete, and a short page would be taken for its end. If it
            # is the only one, its page is full, and the reader asks for the next.
            if not whole and len(pages) > 1:
                del pages[commits[-1]["stream"]]
            answered = len(group) if whole else _index_of(list(pages)[-1], group) + 1
            for read in group[:answered]:
                read.answer(pages.get(read.stream, []))
            group = group[answered:]


def _all_of(group: Sequence[Read]) -> Document:
    """Returns a filter for what the group reads: with `$in`, where possible, it takes half as long
    as with `$or`."""
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

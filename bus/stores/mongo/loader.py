"""Loads aggregates' events: those that are asked for together share one query.

A long stream is read page by page, so that it is never held whole.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from bus.errors import StoreUnavailable
from bus.stores.base import Document, Recorded
from bus.stores.mongo.client import Collection
from bus.stores.mongo.failures import reading
from bus.stores.mongo.grouping import Grouping

MOST_STREAMS = 200
COMMITS_AT_ONCE, COMMITS_AT_A_TIME = 300, 30
"""So many are fetched at once, and made into events at a time. What is held grows with both, and
what is held is gone through by the garbage collector again and again."""

FIELDS = {"_id": 0, "stream": 1, "first": 1, "events": 1}
ASCENDING = [("stream", 1), ("first", 1)]
DESCENDING = [("stream", -1), ("first", -1)]

Page = list[Document]
"""Commits of one stream, in order, with its FIELDS alone."""


class Load(NamedTuple):
    """One stream, and the caller who waits for its first page."""

    stream: str
    waiting: "asyncio.Future[Page]"


class Loader:
    """Reads streams. Cancelling a caller disturbs no other."""

    def __init__(self, commits: Collection) -> None:
        self._commits = commits
        self._arrived: list[Load] = []
        self._grouping = Grouping(self._load_next)

    async def events(
        self, stream: str, after: int
    ) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """As `EventLog.events`. Reads no more of a commit than is asked for."""
        page = await (self._beyond(stream, after) if after else self._first_page(stream))
        while page:
            for start in range(0, len(page), COMMITS_AT_A_TIME):
                yield _events_in(page[start : start + COMMITS_AT_A_TIME], after)
            if len(page) < COMMITS_AT_ONCE:
                return
            page = await self._page({"stream": stream, "first": {"$gt": page[-1]["first"]}})

    async def close(self) -> None:
        """Waits until what was begun is read."""
        await self._grouping.close()

    async def _beyond(self, stream: str, after: int) -> Page:
        """The page that holds version `after + 1`, which may stand within a commit."""
        page = await self._page({"stream": stream, "first": {"$gte": after}})
        if not page or page[0]["first"] > after + 1:
            earlier = {"stream": stream, "first": {"$lt": after}}
            page = await self._page(earlier, DESCENDING, 1) + page
        return page

    async def _page(
        self, filter: Any, order: Any = ASCENDING, limit: int = COMMITS_AT_ONCE
    ) -> Page:
        async with reading():
            cursor = self._commits.find(filter, FIELDS).sort(order).limit(limit).batch_size(limit)
            page: Page = await cursor.to_list(None)
            return page

    # --- first pages, together ---------------------------------------------------------------

    async def _first_page(self, stream: str) -> Page:
        load = Load(stream, asyncio.get_running_loop().create_future())
        self._arrived.append(load)
        self._grouping.arrived()
        return await load.waiting

    async def _load_next(self) -> bool:
        group = self._next_group()
        try:
            await self._load(group)
        except Exception as error:
            _fail(group, error)
        except BaseException:
            _fail(group, StoreUnavailable("the reader was stopped"))
            raise
        return bool(self._arrived)

    def _next_group(self) -> list[Load]:
        """Of two who load one stream, the second waits: what they get is theirs to change."""
        group: dict[str, Load] = {}
        later: list[Load] = []
        for load in self._arrived:
            if load.stream in group or len(group) == MOST_STREAMS:
                later.append(load)
            elif not load.waiting.cancelled():
                group[load.stream] = load
        self._arrived = later
        return sorted(group.values())

    async def _load(self, group: Sequence[Load]) -> None:
        """Gives each its page. A query that ends within a stream starts the next with it."""
        while group:
            commits = await self._page({"stream": {"$in": [load.stream for load in group]}})
            pages = {stream: list(page) for stream, page in groupby(commits, itemgetter("stream"))}
            whole = len(commits) < COMMITS_AT_ONCE
            if not whole and len(pages) > 1:
                del pages[commits[-1]["stream"]]
            told = len(group) if whole else _index_of(list(pages)[-1], group) + 1
            for load in group[:told]:
                if not load.waiting.done():
                    load.waiting.set_result(pages.get(load.stream, []))
            group = group[told:]


def _index_of(stream: str, group: Sequence[Load]) -> int:
    return next(index for index, load in enumerate(group) if load.stream == stream)


def _fail(group: Iterable[Load], error: Exception) -> None:
    for load in group:
        if not load.waiting.done():
            load.waiting.set_exception(error)


def _events_in(commits: Sequence[Document], after: int) -> list[tuple[int, Recorded]]:
    return [
        (version, Recorded(event["name"], event["schema"], event["data"]))
        for commit in commits
        for version, event in enumerate(commit["events"], commit["first"])
        if version > after
    ]

"""Loads aggregates' events: reads that arrive together share one query.

A long stream is read page by page, so that it is never held whole.
"""

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from bus.common.tasks import OthersTime
from bus.data.payload import Document
from bus.stores.event_log import Recorded
from bus.stores.together.shared_reads import Read, SharedReads

COMMITS_AT_ONCE, COMMITS_AT_A_TIME = 300, 30
"""How many commits are fetched at once, and how many of them are made into events at a time. What
is held grows with both, and the garbage collector goes through it again and again."""

Page = list[Document]
"""Commits in order of their streams and versions, with only `stream`, `first` and `events`."""


class Pages(Protocol):
    """Where commits are read from."""

    @abstractmethod
    async def of_all(
        self, whole: Sequence[str], parts: Sequence[tuple[str, int]], limit: int
    ) -> Page:
        """Returns the commits of whole streams, and of others those from a version on."""

    @abstractmethod
    async def beyond(self, stream: str, first: int, limit: int) -> Page:
        """Returns the commits of a stream that begin after a version."""

    @abstractmethod
    async def last_before(self, stream: str, first: int) -> Page:
        """Returns the last commit of a stream that begins before a version, if there is one."""


class Loader:
    """Reads streams. Cancelling a caller affects no other."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
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
            page = await self._pages.beyond(stream, page[-1]["first"], COMMITS_AT_ONCE)

    async def close(self) -> None:
        """Waits until reads that were begun are done."""
        await self._first_pages.close()

    async def _first_page(self, stream: str, after: int) -> Page:
        """Returns the page with version `after + 1`, which may be in the middle of a commit."""
        with OthersTime():
            page: Page = await self._first_pages.read(stream, after)
        if after and (not page or page[0]["first"] > after + 1):
            page = await self._pages.last_before(stream, after) + page
        return page

    async def _load(self, group: Sequence[Read]) -> None:
        """Gives each read its page. If a query's limit cuts a stream off, the next query starts
        with that stream."""
        while group:
            whole = [read.stream for read in group if not read.after]
            parts = [(read.stream, read.after) for read in group if read.after]
            commits = await self._pages.of_all(whole, parts, COMMITS_AT_ONCE)
            pages = {stream: list(page) for stream, page in groupby(commits, itemgetter("stream"))}
            is_all = len(commits) < COMMITS_AT_ONCE
            # The last stream may be incomplete, and a short page would be taken for its end. If it
            # is the only one, its page is full, and the reader asks for the next.
            if not is_all and len(pages) > 1:
                del pages[commits[-1]["stream"]]
            answered = len(group) if is_all else _index_of(list(pages)[-1], group) + 1
            for read in group[:answered]:
                read.answer(pages.get(read.stream, []))
            group = group[answered:]


def _index_of(stream: str, group: Sequence[Read]) -> int:
    return next(index for index, read in enumerate(group) if read.stream == stream)


def _events_in(commits: Sequence[Document], after: int) -> list[tuple[int, Recorded]]:
    return [
        (version, Recorded(event["name"], event["schema"], event["data"]))
        for commit in commits
        for version, event in enumerate(commit["events"], commit["first"])
        if version > after
    ]

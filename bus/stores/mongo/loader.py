"""Pages of streams, as aggregates are loaded from them."""

from collections.abc import Sequence
from typing import Any

from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.mongo.client import Collection
from bus.stores.mongo.failures import reading
from bus.stores.mongo.places import gone
from bus.stores.together.loader import Page, Pages

NO_SUCH_INDEX = 2
"""The error code for a hint that names no index (and for other errors)."""

FIELDS = {"_id": 0, "stream": 1, "first": 1, "events": 1}
ASCENDING = [("stream", 1), ("first", 1)]
DESCENDING = [("stream", -1), ("first", -1)]


class MongoPages(Pages):
    """Reads only what it needs of a commit, by the index of streams."""

    def __init__(self, commits: Collection) -> None:
        self._commits = commits

    async def of_all(
        self, whole: Sequence[str], parts: Sequence[tuple[str, int]], limit: int
    ) -> Page:
        return await self._page(_all_of(whole, parts), ASCENDING, limit)

    async def beyond(self, stream: str, first: int, limit: int) -> Page:
        return await self._page({"stream": stream, "first": {"$gt": first}}, ASCENDING, limit)

    async def last_before(self, stream: str, first: int) -> Page:
        return await self._page({"stream": stream, "first": {"$lt": first}}, DESCENDING, 1)

    async def _page(self, filter: Any, order: Any, limit: int) -> Page:
        try:
            async with reading():
                found = self._commits.find(filter, FIELDS).sort(order).limit(limit).hint(ASCENDING)
                page: Page = await found.batch_size(limit).to_list(None)
                return page
        except StoreUnavailable as error:
            if getattr(error.__cause__, "code", None) == NO_SUCH_INDEX:
                raise StoreUnavailable(gone(self._commits.name)) from error
            raise


def _all_of(whole: Sequence[str], parts: Sequence[tuple[str, int]]) -> Document:
    """Returns a filter for what a group reads: with `$in`, where possible, it takes half as long as
    with `$or`."""
    filters: list[Document] = [
        {"stream": stream, "first": {"$gte": first}} for stream, first in parts
    ]
    if whole:
        filters.append({"stream": {"$in": list(whole)}})
    return filters[0] if len(filters) == 1 else {"$or": filters}

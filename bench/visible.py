"""Waits until documents are visible. Runs in the peers' environment too: PyMongo and no bus."""

import time
from typing import Any

from pymongo import AsyncMongoClient

from bench import side

GIVE_UP_AFTER = 90.0


async def all_visible(mongo_url: str, database: str, count: int) -> float:
    """The seconds until the collection `views` holds so many documents."""
    start = time.perf_counter()
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        views = client[database]["views"]

        async def visible() -> bool:
            return await views.estimated_document_count() >= count

        await side.until(visible, f"{count} documents are not visible", GIVE_UP_AFTER)
    return time.perf_counter() - start

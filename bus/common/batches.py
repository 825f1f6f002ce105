"""Batches: items in lists of a size, or fetched one ahead of the work on them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from bus.common.tasks import end

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yields the items in lists of `size`; the last may be shorter."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


async def gathered(items: AsyncIterable[Item], size: int) -> AsyncIterator[list[Item]]:
    """Does what `batched` does, for items that are awaited."""
    batch: list[Item] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def ahead(items: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """Yields the items, fetching the next while one is worked on. Close it when leaving early."""
    fetching = asyncio.create_task(anext(items, None))
    try:
        while (item := await fetching) is not None:
            fetching = asyncio.create_task(anext(items, None))
            await asyncio.sleep(0)  # lets the fetch start before the work begins
            yield item
    finally:
        await end([fetching])

"""Batches: things one after the other, in lists of so many, or one ahead of who works on them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from bus.common.tasks import end

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; the last may be shorter."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


async def gathered(items: AsyncIterable[Item], size: int) -> AsyncIterator[list[Item]]:
    """As `batched`, of items that are awaited."""
    some: list[Item] = []
    async for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


async def ahead(items: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """The items; while one is worked on, the next is on its way. To be closed when left early."""
    fetching = asyncio.create_task(anext(items, None))
    try:
        while (item := await fetching) is not None:
            fetching = asyncio.create_task(anext(items, None))
            await asyncio.sleep(0)  # so that it is asked for before the work begins
            yield item
    finally:
        await end([fetching])

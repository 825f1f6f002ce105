"""Batches: things one after the other, in lists of so many."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

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

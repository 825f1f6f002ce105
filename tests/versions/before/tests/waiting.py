"""Waiting: for a condition, with a deadline and a word on what was missing; for much at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from bus.read.batches import batched


async def until(
    condition: Callable[[], Any | Awaitable[Any]], missing: str, *, within: float = 30.0
) -> Any:
    """Returns the condition's first true value."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {within} s: {missing}")
        await asyncio.sleep(0.01)


async def in_parts(work: Iterable[Awaitable[Any]], *, of: int = 200) -> None:
    """Awaits all of it, so many at once: each has a deadline, and thousands that come together
    spend theirs waiting for one another."""
    for part in batched(work, of):
        await asyncio.gather(*part)

"""Waiting for a condition, with a deadline and a word on what was missing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


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

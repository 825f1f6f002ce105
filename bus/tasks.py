"""Tasks: how those of our own go side by side, and how they end."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def end(tasks: Iterable["asyncio.Task[Any]"], *, patience: float = 5.0) -> None:
    """Cancels tasks and waits for their end; cancels again whenever `patience` (seconds) ends.

    Once is not enough: drivers lose a cancellation now and then.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=patience)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Carries out all of it side by side; the first error ends the rest and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(tasks)

"""Cancellation at the k-th await of anything."""

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from tests.waiting import patience

Answer = TypeVar("Answer")


@types.coroutine
def _cancelled_at(
    nth: int, running: Coroutine[Any, Any, Answer]
) -> Generator[Any, Any, tuple[bool, Answer]]:
    """Runs a coroutine, and cancels its task where it waits for the nth time.

    Returns whether it came that far, and its answer.
    """
    step: Callable[[], Any] = lambda: running.send(None)  # noqa: E731
    waits = 0
    while True:
        try:
            waiting = step()
        except StopIteration as done:
            return waits >= nth, done.value
        waits += 1
        if waits == nth:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            yield waiting
        except BaseException as error:
            step = lambda error=error: running.throw(error)  # type: ignore[misc]  # noqa: E731
        else:
            step = lambda: running.send(None)  # noqa: E731


async def cancelled_everywhere(
    start: Callable[[int], Coroutine[Any, Any, Answer]], most: int = 500
) -> AsyncIterator[int]:
    """Runs what `start(k)` returns, cancelled at its k-th await, for k = 1, 2, 3 ... until it ends
    before that; yields each k after the cancellation came out."""
    for nth in range(1, most):
        task = asyncio.create_task(_run(_cancelled_at(nth, start(nth))))
        await asyncio.wait([task], timeout=10 * patience())
        assert task.done(), f"cancelled at await {nth}, and still running after 10 s or more"
        if not task.cancelled():
            reached, _ = task.result()
            assert not reached, f"cancelled at await {nth}, and the cancellation was swallowed"
            return
        yield nth
    raise AssertionError(f"{most} awaits, and no end")


async def _run(running: Awaitable[Answer]) -> Answer:
    return await running

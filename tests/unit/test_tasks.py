"""How tasks of our own end."""

import asyncio
from contextlib import suppress

from bus.tasks import end


async def test_a_task_that_lost_its_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def deaf_once() -> None:
        nonlocal lost
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end([task], patience=0.01)
    assert lost == 1
    assert task.cancelled()


async def test_what_has_ended_is_waited_for_no_more() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await end([task])
    await end([])

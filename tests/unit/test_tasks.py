"""How tasks of our own end."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar

import pytest
from pydantic import BaseModel

from bus import Aggregate, Event, Projection
from bus.common.tasks import OthersTime, TurningTime, apart, end
from bus.read.freshness import wait_for
from bus.stores.collections import Target
from bus.stores.memory import MemoryCollections
from tests.unit.virtual_time import stand


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
    async with asyncio.timeout(30):
        await end([task], patience=0.01)
    assert lost == 1
    assert task.cancelled()


async def test_what_has_ended_is_waited_for_no_more() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await end([task])
    await end([])


# -- what others than the caller wait for

OF_THE_CALLER = ContextVar("OF_THE_CALLER", default="nothing")


async def test_a_task_apart_knows_nothing_of_its_callers_context() -> None:
    async def look() -> str:
        return OF_THE_CALLER.get()

    OF_THE_CALLER.set("a deadline")
    assert await apart(look()) == "nothing"
    assert await asyncio.create_task(look()) == "a deadline"


class Happened(Event):
    pass


class Thing(Aggregate, events=[Happened]): ...


class View(BaseModel):
    id: str


class LookingStore(MemoryCollections):
    """Notes what of a caller's context reaches it, and is up to date."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        self.seen.append(OF_THE_CALLER.get())
        return dict.fromkeys(streams, len(self.seen) - 1)


async def test_who_waits_for_a_projection_asks_outside_of_its_context() -> None:
    """A caller's `pymongo.timeout` would end the waiting of all others."""
    store = LookingStore()
    OF_THE_CALLER.set("a deadline")
    await wait_for(store, [Projection("things", of=[Thing], view=View)], {"thing-a": 1}, 5.0)
    assert store.seen[-1] == "nothing"


# -- time in which the loop turned


async def test_a_limit_ends_what_takes_longer() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with (limit := TurningTime(3.0)):
            await asyncio.sleep(3600)
    assert limit.expired
    assert time.monotonic() - began == pytest.approx(3.0)
    async with (limit := TurningTime(0.2)):
        await asyncio.sleep(0.1)
    assert not limit.expired


async def test_limits_that_begin_one_after_the_other_end_each_in_its_time() -> None:
    loop = asyncio.get_running_loop()
    lasted: list[float] = []

    async def limited() -> None:
        began = loop.time()
        with suppress(TimeoutError):
            async with TurningTime(3.0):
                await asyncio.sleep(3600)
        lasted.append(loop.time() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(limited())
            await asyncio.sleep(0.07)
    assert lasted == [pytest.approx(3.0)] * 20


async def test_what_ends_at_once_leaves_no_timer() -> None:
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)  # type: ignore[attr-defined]
    for _ in range(50):
        async with TurningTime(3.0):
            await asyncio.sleep(0)
    assert len(loop._scheduled) - before <= 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("needed", [0.1, 1.0, 2.8])
async def test_time_in_which_the_loop_stood_does_not_count(needed: float) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, stand, 10.0)
    async with TurningTime(3.0):
        await asyncio.sleep(needed)
        stand(5.0)
        await asyncio.sleep(0)


async def test_a_limit_that_ends_while_the_loop_stands_lets_what_came_meanwhile_in_first() -> None:
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.call_later(0.05, stand, 2.0)
    loop.call_later(0.1, loop.call_soon, came.set)
    async with TurningTime(0.2):
        await came.wait()


async def test_a_handler_that_hangs_ends_in_time_however_often_the_loop_stands() -> None:
    loop = asyncio.get_running_loop()
    for number in range(100):
        loop.call_later(number * 2.0, stand, 1.9)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with TurningTime(3.0):
            await asyncio.sleep(3600)
    assert time.monotonic() - began < 30


async def test_time_in_which_somebody_else_is_waited_for_does_not_count() -> None:
    async def hang(limit: TurningTime) -> None:
        async with limit:
            with OthersTime():
                await asyncio.sleep(60)
            await asyncio.sleep(3600)

    async with TurningTime(3.0, spares_waits=True):
        with OthersTime():
            await asyncio.sleep(60)
        await asyncio.sleep(2)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await hang(TurningTime(3.0, spares_waits=True))
    assert time.monotonic() - began == pytest.approx(63.0, abs=1.0)


async def test_many_short_waits_are_ones_own_time() -> None:
    async def poll_for_ever(limit: TurningTime) -> None:
        async with limit:
            while True:
                with OthersTime():
                    await asyncio.sleep(0.1)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await poll_for_ever(TurningTime(3.0, spares_waits=True))
    assert time.monotonic() - began == pytest.approx(3.0, abs=1.0)


async def test_a_limit_that_a_caller_sets_holds_whoever_is_waited_for() -> None:
    async def wait(limit: TurningTime) -> None:
        async with limit:
            with OthersTime():
                await asyncio.sleep(60)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await wait(TurningTime(3.0))
    assert time.monotonic() - began == pytest.approx(3.0, abs=0.5)


async def test_a_cancellation_by_somebody_else_is_no_lack_of_time() -> None:
    async def wait(limit: TurningTime) -> None:
        async with limit:
            await asyncio.sleep(60)

    task = asyncio.create_task(wait(TurningTime(3.0)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_a_limit_nobody_counts() -> None:
    with OthersTime():
        await asyncio.sleep(0)

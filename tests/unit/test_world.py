"""A world in memory: its clock, what its calls refuse, and what it says once it was left."""

import time
from typing import Any

import pytest

from bus import Bus, Event, Retry, RetryPolicy, Router, Settings
from bus.testing import World, memory_world
from tests.waiting import until


class Told(Event):
    pass


def failing(tries: list[float], error: Any, **options: Any) -> Any:
    """Builds a service whose handler fails as it is said."""
    router = Router("failing", **options)

    @router.event
    async def on_told(event: Told) -> None:
        tries.append(time.monotonic())
        if isinstance(error, list):
            if not error:
                return
            raise error.pop()
        raise error

    def build(settings: Settings) -> Bus:
        return Bus("teller", routers=[router], settings=settings)

    return build


async def tell(world: World) -> None:
    await (await world.bus()).publish(Told())


DOCS = RetryPolicy(tries=1, delays=(600, 3600))


async def test_what_would_be_tried_again_in_an_hour_is_tried_again_now() -> None:
    tries: list[float] = []
    async with memory_world(failing(tries, ValueError("no"), retry=DOCS)) as world:
        await tell(world)
        began = time.monotonic()
        await world.settle()
        assert time.monotonic() - began < 3
        assert len(tries) == 3
        (letter,) = await world.dead_letters()
        assert "no" in letter["reason"]


async def test_many_events_are_given_up_by_the_usual_policy_at_once() -> None:
    tries: list[float] = []
    async with memory_world(failing(tries, ValueError("no"))) as world:
        for _ in range(5):
            await tell(world)
        began = time.monotonic()
        await world.settle()
        assert time.monotonic() - began < 5
        assert len(await world.dead_letters()) == 5


async def test_who_asks_for_a_later_try_gets_it_now() -> None:
    tries: list[float] = []
    async with memory_world(failing(tries, [Retry(delay=3600) for _ in range(5)])) as world:
        await tell(world)
        await world.settle()
        assert len(tries) == 6


async def test_who_always_asks_for_a_later_try_is_named() -> None:
    async with memory_world(failing([], Retry(delay=3600))) as world:
        await tell(world)
        with pytest.raises(AssertionError, match=r"teller.failing.*asked for a later try of Told"):
            await world.settle()


async def test_the_clock_that_is_moved_on_ends_delays() -> None:
    tries: list[float] = []
    async with memory_world(failing(tries, [Retry(delay=3600)])) as world:
        await tell(world)
        await until(lambda: len(tries) == 1, "a try")
        await until(lambda: world._rest._broker.delayed == 1, "a try")
        world.advance(3000)
        world.advance(-3000)
        assert world._rest._broker.delayed == 1
        world.advance(601)
        assert world._rest._broker.delayed == 0
        await until(lambda: len(tries) == 2, "a try")

"""A world in memory: its clock, what its calls refuse, and what it says once it was left."""

import time
from typing import Any

import pytest

from bus import Bus, ConfigurationError, Event, Retry, RetryPolicy, Router, Settings
from bus.testing import Faults, World, chaos, memory_world, written
from tests.service.wallet import GetWallet, Pay, build
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
        await until(lambda: len(tries) >= 2, "a try")  # what is told late may be told twice


async def test_services_of_one_name_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"two of the functions build .* called 'wallets'"):
        async with memory_world(build, build):
            raise AssertionError("it began")


async def test_a_crash_that_can_never_happen_is_refused() -> None:
    async with memory_world(build) as world:
        crash_at: Any = world.crash_at
        with pytest.raises(ConfigurationError, match="no such step; take one of 'commit', 'pub"):
            crash_at("publsh")
        with pytest.raises(ConfigurationError, match="nth counts from 1"):
            crash_at("publish", 0)
        with pytest.raises(ConfigurationError, match="one of 'before', 'after'"):
            crash_at("publish", when="later")


@pytest.mark.parametrize("faults", [Faults(duplicate=5), Faults(drop=-1), Faults(lose=True), 0.5])
async def test_what_is_no_chance_is_refused(faults: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"chance"):
        async with chaos(build, faults=faults):
            raise AssertionError("it began")


async def test_a_world_that_was_left_says_so() -> None:
    async with memory_world(build) as world:
        await world.execute(Pay(wallet_id="a", amount=1))
        await world.settle()
    for use in (
        lambda: world.execute(Pay(wallet_id="a", amount=1)),
        lambda: world.query(GetWallet(wallet_id="a")),
        world.bus,
        world.crash,
        world.settle,
    ):
        with pytest.raises(AssertionError, match="this world was left"):
            await use()
    with pytest.raises(AssertionError, match="this world was left"):
        world.crash_at("publish")
    assert len(await world.event_log.read("wallet-a")) == 1
    assert await world.dead_letters() == []


async def test_the_former_read_store_lacks_what_neither_place_has() -> None:
    async with memory_world(build) as world:
        with pytest.warns(DeprecationWarning, match="collections and control now"):
            former = world.read_store
        assert await former.dead_letters() == []
        assert not hasattr(former, "nothing_of_the_kind")
        with pytest.raises(AttributeError, match="neither collections nor control has 'letters'"):
            former.letters()


async def test_a_bus_made_before_is_told_by_what_returned_it() -> None:
    made = build(Settings.in_memory())
    with pytest.raises(ConfigurationError, match=r"<lambda> returned a bus that was not made with"):
        async with memory_world(lambda settings: made):
            raise AssertionError("it began")


async def test_what_was_written_is_asked_of_an_open_bus() -> None:
    bus = build(Settings.in_memory())
    with pytest.raises(ConfigurationError, match=r"Bus\('wallets'\) is not open"):
        await written(bus, "letters")
    async with bus:
        assert await written(bus, "letters") == {}
    with pytest.raises(ConfigurationError, match=r"Bus\('wallets'\) was closed"):
        await written(bus, "letters")

"""Duplicates, shuffles, delays, losses, failing stores, crashes, all at once, for many seeds."""

import asyncio

import pytest

from bus import OutcomeUnknown, StoreUnavailable
from bus.testing import NO_FAULTS, Faults, chaos
from handlers.app import build
from tests.fault import hirings, payments
from tests.service import pricing
from tests.service.wallet import Diary, Pay

ROUGH = Faults(
    reorder=0.5, duplicate=0.5, delay=0.3, drop=0.3, lose=0.3, forget=0.3, publish=0.3, store=0.1
)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_goes_wrong_each_payment_counts_once(seed: int) -> None:
    diary = Diary()
    async with chaos(payments.wallets(diary), seed=seed) as world:
        await payments.pay(world)
        await world.settle()
        await payments.check(world, diary)


@pytest.mark.parametrize("seed", range(4))
async def test_where_hardly_anything_goes_right_each_payment_counts_once(seed: int) -> None:
    diary = Diary()
    async with chaos(payments.wallets(diary), seed=seed, faults=ROUGH) as world:
        await payments.pay(world)
        await world.settle()
        await payments.check(world, diary)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_goes_wrong_the_job_board_ends_as_its_commands_say(seed: int) -> None:
    async with chaos(build, seed=seed) as world:
        await hirings.hire(world)
        await world.settle()
        await hirings.check(world)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_goes_wrong_commands_with_sessions_count_once(seed: int) -> None:
    """Documents, two aggregates, a named stream and what is sent go together."""
    async with chaos(pricing.build, seed=seed) as world:
        for price in range(6):
            await world.execute(pricing.Reprice(market="eur", article="a", price=price))
        await world.settle()
        for stream in ("article-a", "market-eur", "price_list-eur"):
            found = [
                (commit.first, event.data["price"])
                for commit in await world.event_log.read(stream)
                for event in commit.events
            ]
            assert found == [(price + 1, price) for price in range(6)], f"{world}: {stream}"
        assert await world.written("totals") == {"all": {"changes": 6}}, str(world)
        assert await world.written("notes") == {"a": {"times": 6}}, str(world)
        view = await world.query(pricing.GetPriceList(market="eur"))
        assert view == pricing.PriceListView(id="eur", prices={"a": 5}, changes=6), str(world)


async def test_nothing_is_left_running_when_the_world_is_left() -> None:
    before = asyncio.all_tasks()
    async with chaos(payments.wallets(Diary()), seed=9) as world:
        await payments.pay(world)
        await world.settle()
        assert world.crashes > 1
    assert asyncio.all_tasks() == before


async def test_only_where_nothing_was_stored_an_error_says_so() -> None:
    failing = NO_FAULTS._replace(store=0.4)
    async with chaos(payments.wallets(Diary()), faults=failing) as world:
        bus = await world.bus()
        unknown = 0
        for n in range(300):
            try:
                await bus.execute(Pay(wallet_id="a", amount=1), id=f"k{n}")
            except StoreUnavailable:
                assert not await world.event_log.find(f"k{n}")
            except OutcomeUnknown:
                unknown += bool(await world.event_log.find(f"k{n}"))
        assert unknown > 0

"""Services that are fed from a topic, tested in memory: what their owner's log holds feeds them."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bus import Bus, Settings, Worker, clock
from bus.cli.main import app
from bus.following import feeding
from bus.kafka import KafkaFeed
from bus.testing import World, chaos, memory_world, shared_memory
from bus.testing.simulation.feeds import MemoryFeedReader
from tests.service.feeding import GetDeposits, Noted, are_as_folded, reports
from tests.service.sending import Account, Opened, Paid, Pay, bank
from tests.waiting import until

FEED = KafkaFeed("bank", topic="bank_events", url="kafka://nowhere.invalid:9092")


def a_bank(settings: Settings) -> Bus:
    return bank(settings, "bank", None)


async def amounts(world: World) -> dict[str, list[int]]:
    return {one.id: one.amounts for one in await world.query(GetDeposits())}


async def test_what_is_given_feeds_a_service_whose_owner_is_not_there() -> None:
    noted = Noted()

    def fed(settings: Settings) -> Bus:
        return reports(settings, "reports", FEED, noted)

    async with memory_world(fed) as world:
        owner = world.of("bank")
        await owner.given(Account, "a1", Opened(owner="Ada"), Paid(amount=1), Paid(amount=2))
        await world.settle()
        assert await amounts(world) == {"a1": [1, 2]}
        await owner.given(Account, "a1", Paid(amount=3))
        await owner.given(Account, "a2", Opened(owner="Bob"), Paid(amount=4))
        await world.settle()
        assert await amounts(world) == {"a1": [1, 2, 3], "a2": [4]}
        assert sorted(noted) == [1, 2, 3, 4]
        assert (await world.query(GetDeposits()))[0].owner == "Ada"
        await world.of("reports").crash()
        await world.settle()
        assert sorted(noted) == [1, 2, 3, 4], "what was settled does not come again"


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_goes_wrong_a_service_that_is_fed_has_what_happened(seed: int) -> None:
    noted = Noted()

    def fed(settings: Settings) -> Bus:
        return reports(settings, "reports", FEED, noted)

    async with chaos(a_bank, fed, seed=seed) as world:
        for number in range(30):
            await world.execute(Pay(account_id=f"a{number % 3}", amount=number))
        await world.settle()
        expected = {f"a{each}": list(range(each, 30, 3)) for each in range(3)}
        assert await amounts(world) == expected, world
        assert set(noted) == set(range(30)), world


async def test_what_is_history_is_told_by_the_clock_of_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Handlers hear what happens while the topic is read from its start, however wrong the clock is
    of the process that reads it."""

    async def is_not_at_the_end(*_: object) -> bool:
        return False

    monkeypatch.setattr(MemoryFeedReader, "has_reached", is_not_at_the_end)
    settings, noted = shared_memory(), Noted()
    fed = reports(settings, "reports", FEED, noted)
    async with a_bank(settings) as owner, Worker(owner), fed:
        await owner.execute(Pay(account_id="a", amount=0))
        before = clock.now()
        await until(lambda: clock.now() > before, "its time to be another one than the start")
        ahead = SimpleNamespace(now=lambda: clock.now() + timedelta(hours=1), source=clock.source)
        monkeypatch.setattr(feeding, "clock", ahead)
        async with Worker(fed):
            note = f"fed/{FEED.name}"

            async def has_begun() -> bool:
                return bool((await fed.runtime.control.note(note)).value)

            await until(has_begun, "it begins")
            await owner.execute(Pay(account_id="a", amount=1))
            await until(lambda: 1 in noted, "what happens to be noted")
            assert noted == [1]


async def test_workers_of_one_service_share_what_feeds_it() -> None:
    settings, noted = shared_memory(), Noted()
    first, second = (reports(settings, "reports", FEED, noted) for _ in range(2))
    async with a_bank(settings) as owner, Worker(owner), first, second:
        await owner.execute(Pay(account_id="a", amount=0))
        before = clock.now()
        await until(lambda: clock.now() > before, "its time to be another one than the start")
        async with Worker(first):
            async with Worker(second):
                await owner.execute(Pay(account_id="a", amount=1))
                await until(lambda: are_as_folded(first, owner), "the history and what came")
            after = clock.now()
            await owner.execute(Pay(account_id="a", amount=2))
            await until(lambda: are_as_folded(second, owner), "what came to the one that stays")
            await until(lambda: {*noted} == {1, 2}, "what came since to be noted")
        assert before < await first.runtime.history.heard_since("account") <= after


def alone(settings: Settings) -> Bus:
    return reports(settings, "reports", FEED)


async def test_that_its_topic_is_read_again_is_what_fetch_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUS_AMQP_URL", "memory://")
    monkeypatch.setenv("BUS_MONGO_URL", "memory://")
    words = ["projections", "fetch", f"{__name__}:alone", "account"]
    result = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert result.stdout.startswith(
        "the topic bank_events, which brings account of bank, is read from its start again; "
    ), result.output

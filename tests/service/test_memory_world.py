"""Several services in memory: they meet as over a real broker, and chaos befalls each of them."""

import pytest

from bus import Bus, Envelope, NotBuilt, Router, Settings, Worker
from bus.testing import NO_FAULTS, World, built, chaos, memory_world, shared_memory
from handlers import applications_app, jobs_app
from tests.fault import hirings
from tests.service.following_contract import (
    GetPurse,
    Paid,
    Pay,
    PlaceOrder,
    Purse,
    bank,
    shop,
)
from tests.waiting import until


def a_bank(settings: Settings) -> Bus:
    return bank(settings, "bank")


def a_shop(settings: Settings) -> Bus:
    return shop(settings, "shop", "bank")


async def amounts(world: World, purse: str) -> list[int]:
    found = await world.query(GetPurse(purse_id=purse))
    return found.amounts if found else []


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_goes_wrong_a_follower_has_what_happened(seed: int) -> None:
    async with chaos(a_bank, a_shop, seed=seed) as world:
        for number in range(30):
            await world.execute(Pay(purse_id=f"p{number % 3}", amount=number))
        await world.settle()
        for purse in range(3):
            assert await amounts(world, f"p{purse}") == list(range(purse, 30, 3)), world


@pytest.mark.parametrize("seed", range(4))
async def test_chaos_settles_where_only_the_follower_is_there(seed: int) -> None:
    async with chaos(a_shop, seed=seed) as world:
        await world.of("bank").given(Purse, "a", Paid(amount=1), Paid(amount=2))
        await world.execute(PlaceOrder(order_id="o1", purse_id="a"))
        await world.settle()
        assert await amounts(world, "a") == [1, 2]
        await world.of("bank").given(Purse, "a", Paid(amount=3))
        await world.settle()
        assert await amounts(world, "a") == [1, 2, 3]


async def test_what_happened_before_its_follower_was_there_is_told() -> None:
    async with memory_world(a_bank) as before:
        await before.execute(Pay(purse_id="a", amount=1))
        await before.settle()
    async with memory_world(a_shop) as world:
        await world.of("bank").given(Purse, "a", *[Paid(amount=n) for n in range(50)])
        await world.settle()
        assert await amounts(world, "a") == list(range(50))


@pytest.mark.parametrize("seed", range(3))
async def test_the_job_board_as_two_services_ends_as_its_commands_say(seed: int) -> None:
    async with chaos(jobs_app.build, applications_app.build, seed=seed) as world:
        await hirings.hire(world)
        await world.settle()
        await hirings.check(world)


async def test_a_service_is_sent_and_asked_what_it_handles() -> None:
    async with memory_world(a_shop, a_bank) as world:
        receipt = await world.request(Pay(purse_id="a", amount=1))
        assert receipt.versions == {"purse-a": 1}
        await world.send(Pay(purse_id="a", amount=2))
        await world.settle()
        assert await amounts(world, "a") == [1, 2]
        assert len(await world.of("bank").event_log.read("purse-a")) == 2


async def test_handlers_hear_of_another_services_events() -> None:
    heard: list[str] = []
    router = Router("hearing")

    @router.event
    async def on_paid(event: Paid, envelope: Envelope) -> None:
        heard.append(f"{envelope.stream}@{envelope.version}")

    def build(settings: Settings) -> Bus:
        return Bus("hearer", routers=[router], foreign={"purse": "bank"}, settings=settings)

    async with memory_world(build, a_bank) as world:
        for amount in range(10):
            await world.execute(Pay(purse_id="a", amount=amount))
        await world.settle()
    assert heard == [f"purse-a@{version}" for version in range(1, 11)]


async def test_each_service_is_killed_by_itself() -> None:
    async with chaos(a_bank, a_shop, faults=NO_FAULTS) as world:
        world.of("shop").crash_at("project")
        await world.execute(Pay(purse_id="a", amount=1))
        await world.settle()
        await world.of("bank").crash()
        assert (world.of("shop").crashes, world.of("bank").crashes, world.crashes) == (1, 1, 2)
        assert await amounts(world, "a") == [1]


async def test_what_is_one_services_is_asked_of_one() -> None:
    async with memory_world(a_bank, a_shop) as world:
        with pytest.raises(AssertionError, match=r"world.of\('bank'\).event_log"):
            _ = world.event_log
        with pytest.raises(AssertionError, match=r"world.of\('banks'\): this world has bank, shop"):
            world.of("banks")
    async with memory_world(a_bank, lambda settings: bank(settings, "other_bank")) as world:
        with pytest.raises(AssertionError, match="bank and other_bank both handle Pay"):
            await world.execute(Pay(purse_id="a", amount=1))
        await world.of("other_bank").execute(Pay(purse_id="a", amount=1))


async def test_buses_of_shared_settings_meet() -> None:
    settings = shared_memory()
    follower, client = a_shop(settings), a_bank(settings)
    async with a_bank(settings) as owner, Worker(owner), follower, Worker(follower), client:
        await client.request(Pay(purse_id="a", amount=1))

        async def shown() -> bool:
            try:
                found = await follower.query(GetPurse(purse_id="a"))
            except NotBuilt:
                return False
            return found is not None and found.amounts == [1]

        await until(shown, "the shop shows what was paid")
        assert len(await client.runtime.event_log.read("purse-a")) == 1


async def test_a_follower_is_read_at_once_when_it_is_built() -> None:
    settings = shared_memory()
    follower = a_shop(settings)
    async with a_bank(settings) as owner, Worker(owner), follower, Worker(follower):
        await built(owner, follower)
        receipt = await owner.execute(Pay(purse_id="a", amount=1))
        found = await follower.query(GetPurse(purse_id="a"), after=receipt)
        assert found is not None
        assert found.amounts == [1]


async def test_what_nobody_builds_is_told() -> None:
    async with a_shop(shared_memory()) as follower:
        with pytest.raises(NotBuilt, match="see to it that a worker runs"):
            await built(follower, within=0.1)


async def test_buses_of_other_settings_do_not_meet() -> None:
    async with a_bank(shared_memory()) as one, a_bank(shared_memory()) as other:
        await one.execute(Pay(purse_id="a", amount=1))
        assert await other.runtime.event_log.read("purse-a") == []

"""A service that follows another one, over a wire that is cut and queues that are lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bus import Bus, NotBuilt, Settings, Worker
from tests.databases import drop
from tests.service.following_contract import (
    GetPurses,
    bank,
    folded,
    pay,
    payment,
    shop,
    store,
)
from tests.waiting import until
from tools.faults import Proxy

PURSES = 500


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(amqp_url) as proxy:
        yield proxy


@pytest.fixture
async def settings(mongo_url: str, proxy: Proxy, unique: str) -> AsyncIterator[Settings]:
    """Both services are on the wire that is cut, each with a database by its name."""
    yield Settings(
        amqp_url=proxy.url, mongo_url=mongo_url, heartbeat=2, gap_within=1.0, sweep_every=1.0
    )
    await drop(mongo_url, f"{unique}_bank", f"{unique}_shop")


@pytest.fixture
async def owner(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    """The bank, with a history."""
    async with bank(settings, f"{unique}_bank") as owner, Worker(owner):
        old = [payment(f"p{n}", v, n + v) for n in range(PURSES) for v in range(1, 9)]
        await store(owner, *old)
        yield owner


@pytest.fixture
async def follower(settings: Settings, owner: Bus, unique: str) -> AsyncIterator[Bus]:
    """The shop, which knows nothing of that yet."""
    async with shop(settings, f"{unique}_shop", owner.service) as follower:
        yield follower


@asynccontextmanager
async def payments_going_on(owner: Bus) -> AsyncIterator[None]:
    done = False

    async def go_on() -> None:
        number = 0
        while not done:
            number += 1
            await pay(owner, f"p{number % 40}", number)
            await asyncio.sleep(0.02)

    going = asyncio.create_task(go_on())
    try:
        yield
    finally:
        done = True
        await going


async def until_equal(owner: Bus, follower: Bus) -> None:
    async def equal() -> bool:
        try:
            shown = {one.id: one.amounts for one in await follower.query(GetPurses())}
        except NotBuilt:
            return False
        return shown == await folded(owner)

    await until(equal, "the shop's purses equal the fold of the bank's log", within=60)


async def test_a_wire_that_is_cut_again_and_again_while_history_and_events_come(
    owner: Bus, follower: Bus, proxy: Proxy
) -> None:
    chance = random.Random(5)
    async with Worker(follower), payments_going_on(owner):
        for _ in range(12):
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            proxy.cut()
    async with Worker(follower):
        await until_equal(owner, follower)


async def test_events_lost_with_a_deleted_queue_are_asked_for_once_the_next_ones_come(
    owner: Bus, follower: Bus
) -> None:
    async with Worker(follower):
        await until_equal(owner, follower)
    async with payments_going_on(owner):
        await asyncio.sleep(1)
    queues = [f"{follower.service}.{name}" for name in ("purses", "customers")]
    await follower.runtime.transport.delete(queues)
    await follower.runtime.transport.declare(follower.runtime.topology)
    for number in range(40):
        await pay(owner, f"p{number}", 1)
    async with Worker(follower):
        await until_equal(owner, follower)

"""Moving the log of a service that goes on working: nothing is lost, repeated, or out of order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from bus import Bus, Settings, Worker
from bus.continuity import continuity
from bus.operate import log_copy
from bus.operate.log_copy import LogCopy
from tests.databases import drop
from tests.service.following_contract import GetPurse, shop
from tests.service.moving import (
    Bell,
    Clients,
    MovedSettings,
    bank,
    mailed,
    mailed_in,
    place,
    table_of_mails,
)
from tests.waiting import in_parts, until

Places = Sequence[tuple[str, Settings]]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(continuity, "TURN_EVERY", 0)
    monkeypatch.setattr(log_copy, "GRACE", timedelta(seconds=2))


@pytest.fixture
async def databases(real_settings: Settings, unique: str, mongo_url: str) -> AsyncIterator[Places]:
    """Of MongoDB, so that event handlers have sessions in each."""
    other = f"{unique}_log"
    fields = real_settings.model_dump()
    home = MovedSettings(**(fields | {"log_db": unique}))
    away = MovedSettings(**(fields | {"log_db": other}))
    yield [("mongodb", home), ("another database", away), ("mongodb", home)]
    await drop(mongo_url, other, f"{unique}_shop")


@pytest.fixture
async def stores(
    real_settings: Settings, unique: str, mongo_url: str, postgresql_url: str, mariadb_url: str
) -> AsyncIterator[Places]:
    """One of each kind."""
    postgresql = real_settings.model_copy(update={"log_url": postgresql_url})
    mariadb = real_settings.model_copy(update={"log_url": mariadb_url})
    yield [
        ("mongodb", real_settings),
        ("postgresql", postgresql),
        ("mariadb", mariadb),
        ("mongodb", real_settings),
    ]
    await drop(mongo_url, f"{unique}_shop")


async def test_handlers_with_sessions_run_once_when_a_log_is_moved(
    databases: Places, unique: str, mongo_url: str
) -> None:
    clients = await moved_through(databases, unique)
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        times = await mailed(client[unique], client[f"{unique}_log"])
    assert len(times) == len(clients.receipts)
    assert set(times.values()) == {1}


@pytest.mark.timeout(900)
async def test_a_log_is_moved_from_store_to_store_while_commands_come_in(
    stores: Places, unique: str, mongo_url: str
) -> None:
    async with (
        table_of_mails(stores[1][1].log_url) as postgresql,
        table_of_mails(stores[2][1].log_url) as mariadb,
        AsyncMongoClient[dict[str, Any]](mongo_url) as client,
    ):
        clients = await moved_through(stores, unique)
        times = [
            await mailed(client[unique]),
            await mailed_in(postgresql),
            await mailed_in(mariadb),
        ]
    assert all(times), "some are mailed in each of the places"
    assert sum(times, Counter()) == Counter({f"{id}:1": 1 for id in clients.receipts})


async def moved_through(places: Places, unique: str) -> Clients:
    """Moves a bank's log from place to place, while it is paid into and a shop follows it. Between
    two places, processes of both releases run side by side for a while."""
    bell = Bell()
    name = f"{unique}_bank"
    of_shop = places[0][1].model_copy(update={"mongo_db": f"{unique}_shop"})
    if isinstance(of_shop, MovedSettings):
        of_shop = of_shop.model_copy(update={"log_db": f"{unique}_shop"})
    follower = shop(of_shop, f"{unique}_shop", name)
    async with AsyncExitStack() as stack:
        current, processes = await begun(places[0][1], name, bell)
        clients = Clients(current)
        await stack.enter_async_context(follower)
        await stack.enter_async_context(Worker(follower))
        running = asyncio.create_task(clients.run())
        await go_on(clients)
        for (old_name, old), (new_name, new) in pairwise(places):
            async with place(old, name, old_name) as a, place(new, name, new_name) as b:
                assert (await LogCopy(name, a, b).follow()).state == "following"
                assert (await LogCopy(name, a, b).finish()).state == "moved"
            await refused(clients)
            following, others = await begun(new, name, bell)
            clients.buses.append(following)
            await go_on(clients)
            await asyncio.sleep(1)  # both releases look at the database meanwhile
            for bus in (current, following):
                assert await bus.runtime.continuity.problem() is None
            clients.buses.remove(current)
            await processes.aclose()
            current, processes = following, others
            await go_on(clients)
        clients.stop()
        await running
        stack.push_async_callback(processes.aclose)
        assert any("was moved to" in words for words in clients.refusals)
        await check(current, follower, clients, bell)
    return clients


async def go_on(clients: Clients) -> None:
    before = len(clients.receipts)
    await until(lambda: len(clients.receipts) > before + 40, "payments come in")


async def refused(clients: Clients) -> None:
    before = clients.refused
    await until(lambda: clients.refused > before, "some are refused")


async def begun(settings: Settings, name: str, bell: Bell) -> tuple[Bus, AsyncExitStack]:
    """Starts the processes of a release with these settings."""
    processes = AsyncExitStack()
    bus = await processes.enter_async_context(bank(settings, name, bell))
    await processes.enter_async_context(Worker(bus))
    return bus, processes


async def check(current: Bus, follower: Bus, clients: Clients, bell: Bell) -> None:
    async def shown_by(bus: Bus) -> dict[str, list[int]]:
        found = {}
        for purse in clients.paid:
            view = await bus.query(GetPurse(purse_id=purse))
            found[purse] = view.amounts if view else []
        return found

    async def all_shown() -> bool:
        return await shown_by(current) == clients.paid == await shown_by(follower)

    await until(all_shown, "the bank and the shop have all payments, in order and once")
    for purse, amounts in clients.paid.items():
        stream = await current.runtime.event_log.read(f"purse-{purse}")
        assert [event.data["amount"] for one in stream for event in one.events] == amounts

    async def repeat(id: str) -> None:
        payment, receipt = clients.receipts[id]
        assert await current.execute(payment, id=id) == receipt

    await in_parts(map(repeat, clients.receipts), of=50)
    count = len(clients.receipts)
    await until(lambda: len(bell) == 2 * count, "all are rung for, and all audited")
    assert await current.runtime.continuity.problem() is None

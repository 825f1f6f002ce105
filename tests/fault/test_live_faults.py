"""Live queries while MongoDB and the network fail: nothing is missed, and nobody's loop ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from bus import Bus, Settings, Worker
from bus.errors import StoreUnavailable
from bus.stores.collections import ChangeFeed, Collections, Target
from bus.stores.mongo import MongoCollections, close
from bus.stores.mongo.changes import MongoChangeFeed
from bus.testing.contracts.documents.documents_contract import counting
from tests.fault.conftest import Recovered
from tests.service.live_contract import watching
from tests.service.rebuild_contract import CountPurses, Pay, paid_into, service
from tests.waiting import until
from tools.faults import MongoSet, Proxy, failing
from tools.services.mongodb import MongoNode

BOARD = Target("board", "board", False)
HISTORY_LOST, CURSOR_GONE, NO_TOKEN = 286, 43, 260

Connect = Callable[[str], Any]


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    clients: list[Any] = []

    def connected(url: str) -> Any:
        bounds = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 2000, "timeoutMS": 5000}
        clients.append(request.param(url, heartbeatFrequencyMS=500, **bounds))
        return clients[-1]

    yield connected
    for client in clients:
        await close(client)


@asynccontextmanager
async def listening(client: Any, database: str) -> AsyncIterator[tuple[Collections, ChangeFeed]]:
    """Collections, and a feed of them that listens."""
    collections = MongoCollections(client, database)
    await collections.open()
    await collections.prepare(BOARD)
    feed = collections.changes(BOARD)
    try:
        assert await feed.changed()
        yield collections, feed
    finally:
        await feed.close()


async def change(collections: Collections, version: int) -> None:
    writer = collections.writer(BOARD, "queue")
    await writer.transact(["job-a"], counting(version))
    await writer.close()


async def told(feed: ChangeFeed) -> None:
    """Waits until it tells of a change."""
    await until(lambda: asked(feed), "it tells of the change", within=20)


async def silent(feed: ChangeFeed) -> bool:
    """Whether it tells of none, twice."""
    return not await asked(feed) and not await asked(feed)


async def asked(feed: ChangeFeed) -> bool:
    """What it tells; an outage is neither."""
    while True:
        try:
            return await feed.changed()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


async def test_a_feed_whose_connection_was_cut_goes_on_where_it_was(
    database: MongoNode, connect: Connect, unique: str
) -> None:
    async with Proxy(database.url) as proxy, listening(connect(proxy.url), unique) as (_, feed):
        aside = MongoCollections(connect(database.url), unique)
        for version in range(1, 6, 2):
            proxy.cut()
            await change(aside, version)
            await told(feed)
            proxy.cut()
            assert await silent(feed)
            waiting = asyncio.create_task(told(feed))
            await asyncio.sleep(0.1)
            proxy.cut()
            await change(aside, version + 1)
            await waiting


async def test_a_feed_that_the_network_has_forgotten_goes_on_where_it_was(
    database: MongoNode, connect: Connect, unique: str
) -> None:
    """Half-open: nobody says that the connection is dead."""
    async with Proxy(database.url) as proxy, listening(connect(proxy.url), unique) as (_, feed):
        aside = MongoCollections(connect(database.url), unique)
        proxy.half_open()
        await change(aside, 1)
        await told(feed)
        assert await silent(feed)


@pytest.mark.parametrize("code", [CURSOR_GONE, HISTORY_LOST])
async def test_a_cursor_that_the_server_has_forgotten_is_opened_again_from_its_token(
    database: MongoNode, connect: Connect, unique: str, code: int
) -> None:
    async with listening(connect(database.url), unique) as (collections, feed):
        with failing(database, "getMore", 1, errorCode=code):
            assert not await feed.changed()
        with failing(database, "getMore", 1, errorCode=code):
            await change(collections, 1)
            assert await feed.changed() or await feed.changed()
        assert await silent(feed)


async def test_changes_whose_answer_came_too_late_are_told_of_by_the_next(
    database: MongoNode, connect: Connect, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has answered, and its cursor is beyond them; who asked has given up."""
    async with listening(connect(database.url), unique) as (collections, feed):
        assert await silent(feed)
        behind, answered = cast(MongoChangeFeed, feed)._database, asyncio.Event()

        async def late(*command: Any, **options: Any) -> Any:
            reply = await behind.command(*command, **options)
            if not reply["cursor"].get("nextBatch"):
                return reply
            answered.set()
            return await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(feed, "_database", SimpleNamespace(command=late))
            await change(collections, 1)
            asking = asyncio.create_task(told(feed))
            await answered.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert await asked(feed) or await asked(feed)
        assert await silent(feed)
        await change(collections, 2)
        await told(feed)


@pytest.mark.parametrize("code", [HISTORY_LOST, NO_TOKEN])
async def test_a_feed_that_cannot_be_resumed_begins_anew_and_says_to_look(
    database: MongoNode, connect: Connect, unique: str, code: int
) -> None:
    async with listening(connect(database.url), unique) as (collections, feed):
        both = ["getMore", "aggregate"]
        with failing(database, "getMore", 2, errorCode=code, failCommands=both):
            assert await feed.changed()
        assert await silent(feed)
        await change(collections, 1)
        await told(feed)


@pytest.fixture
def settings(database: MongoNode, amqp_url: str, unique: str) -> Settings:
    return Settings(amqp_url=amqp_url, mongo_url=database.url, mongo_db=unique)


async def test_watchers_see_what_changed_while_they_were_cut_off(
    database: MongoNode, settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with Proxy(database.url) as proxy, service(settings, unique) as writing, Worker(writing):
        through = settings.model_copy(update={"mongo_url": proxy.url})
        reading = service(through, unique)
        async with reading, watching(reading.watch(CountPurses())) as seen:
            await paid_into(writing, 1)
            await until(lambda: seen and seen[-1] == 1, "the first purse")
            await proxy.shut()
            await paid_into(writing, 5)
            await asyncio.sleep(1)
            assert seen[-1] == 1
            await proxy.open()
            started = time.monotonic()
            await until(lambda: seen[-1] == 5, "the purses of meanwhile", within=20)
            recovered("a live query cut off", time.monotonic() - started, 15)


@asynccontextmanager
async def watched(settings: Settings, name: str) -> AsyncIterator[tuple[Bus, list[int]]]:
    """A service with its worker and one purse, and what a watcher has seen of their number."""
    bus = service(settings, name)
    async with bus, Worker(bus), watching(bus.watch(CountPurses())) as seen:
        await paid_into(bus, 1)
        await until(lambda: seen and seen[-1] == 1, "the first purse")
        yield bus, seen


async def expect_a_payment_shown(bus: Bus, seen: list[int]) -> None:
    await until(lambda: paid(bus), "a payment is taken", within=30)
    await until(lambda: seen[-1] == 2, "it shows", within=30)


async def paid(bus: Bus) -> bool:
    try:
        await bus.execute(Pay(purse_id="after", amount=1), id="once")
    except Exception:  # away yet, or its outcome unknown: the id settles that
        return False
    return True


async def test_watchers_outlive_a_server_that_is_killed(
    database: MongoNode, settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with watched(settings, unique) as (bus, seen):
        await asyncio.to_thread(database.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(database.start)
        started = time.monotonic()
        await expect_a_payment_shown(bus, seen)
        recovered("a live query's server killed", time.monotonic() - started, 25)


async def test_watchers_outlive_a_primary_that_steps_down(
    tmp_path: Path, amqp_url: str, unique: str, recovered: Recovered
) -> None:
    with MongoSet(tmp_path) as replicas:
        settings = Settings(amqp_url=amqp_url, mongo_url=replicas.url, mongo_db=unique)
        async with watched(settings, unique) as (bus, seen):
            before = await asyncio.to_thread(replicas.step_down)
            await asyncio.to_thread(replicas.await_primary, before)
            started = time.monotonic()
            await expect_a_payment_shown(bus, seen)
            recovered("a live query's primary stepped down", time.monotonic() - started, 15)

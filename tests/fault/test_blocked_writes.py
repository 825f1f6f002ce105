"""While MongoDB does not write, whatever the reason, nothing is given up and all is done after."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

from bus import Bus, ConfigurationError, NotAllowed, Settings, Worker
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.mongo import close
from tests.databases import guarded_node, url_of
from tests.servers import revive
from tests.service import wallet
from tests.service.mailing import Post, build, paid_in_total
from tests.service.wallet import Diary, GetWallet, Pay
from tests.waiting import until
from tools.faults import failing
from tools.services.mongodb import MongoNode

WRITES = ("insert", "update", "delete", "findAndModify", "commitTransaction")
SOME = 20
CODES = (1, 8, 20, 24, 46, 133, 202, 215, 12587, 14031)


Met = Callable[[], Awaitable[None]]


@contextmanager
def answering(database: MongoNode, code: int) -> Iterator[Met]:
    """Every write is answered by an error; what it gives returns when some were."""
    data = {"failCommands": WRITES, "errorCode": code}
    with MongoClient[dict[str, Any]](database.url) as client:
        configure = {"configureFailPoint": "failCommand", "data": data}
        before: int = client.admin.command({**configure, "mode": "alwaysOn"})["count"]

        async def met() -> None:
            def some() -> bool:
                found = client.admin.command({"getParameter": 1, "failpoint.failCommand": 1})
                entered: int = found["failpoint.failCommand"]["timesEntered"]
                return entered >= before + SOME

            await until(some, f"{SOME} writes are answered by {code}")

        try:
            yield met
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def for_a_while() -> None:
    """The server does not tell what it holds up."""
    await asyncio.sleep(0.7)


@contextmanager
def locked(database: MongoNode) -> Iterator[Met]:
    with MongoClient[dict[str, Any]](database.url) as client:
        client.admin.command("fsync", lock=True)
        try:
            yield for_a_while
        finally:
            client.admin.command("fsyncUnlock")


@contextmanager
def blocked(database: MongoNode) -> Iterator[Met]:
    with MongoClient[dict[str, Any]](database.url) as client:
        client.admin.command({"setUserWriteBlockMode": 1, "global": True})
        try:
            yield for_a_while
        finally:
            client.admin.command({"setUserWriteBlockMode": 1, "global": False})


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def client(request: pytest.FixtureRequest, database: MongoNode) -> AsyncIterator[Any]:
    client = request.param(database.url, serverSelectionTimeoutMS=3000, heartbeatFrequencyMS=500)
    yield client
    await close(client)


@pytest.fixture
async def bus(database: MongoNode, client: Any, unique: str) -> AsyncIterator[Bus]:
    settings = Settings(amqp_url="memory://", mongo_url=database.url, mongo_db=unique)
    async with build(settings, Post(), unique, client=client) as bus, Worker(bus):
        yield bus


async def all_done(bus: Bus, payments: int) -> None:
    """Each payment was counted once by its handler, and thanked for once."""

    async def thanked() -> bool:
        found = await bus.runtime.event_log.tally()
        return {one.name: one.count for one in found}.get("Thanked") == payments

    await until(thanked, f"{payments} payments are thanked for", within=60)
    assert await paid_in_total(bus) == payments
    await nothing_given_up(bus)


async def nothing_given_up(bus: Bus) -> None:
    control = bus.runtime.control
    assert await control.dead_letters() == []
    (projection,) = bus.runtime.projections
    assert await control.parked(await bus.runtime.catalogue.target(projection)) == []


async def pay(bus: Bus, count: int, name: str) -> None:
    for n in range(count):
        await bus.send(Pay(wallet_id=f"{name}-{n}", amount=1))


async def test_while_nothing_can_be_written_nothing_is_given_up(
    database: MongoNode, bus: Bus
) -> None:
    """Queued commands, handlers with sessions, projections, sweeps, the relay."""
    await pay(bus, 2, "warm")
    await all_done(bus, 2)
    troubles = [blocked(database), locked(database), *(answering(database, code) for code in CODES)]
    for number, trouble in enumerate(troubles):
        with trouble as met:
            await pay(bus, 2, f"held-{number}")
            await met()
        await pay(bus, 1, f"after-{number}")
    await all_done(bus, 2 + 3 * len(troubles))


async def test_a_command_says_that_nothing_was_stored_while_writes_are_blocked(
    database: MongoNode, bus: Bus
) -> None:
    with blocked(database), pytest.raises(StoreUnavailable, match="setUserWriteBlockMode"):
        await bus.execute(Pay(wallet_id="a", amount=1))
    assert await bus.runtime.event_log.read("wallet-a") == []
    await bus.execute(Pay(wallet_id="a", amount=1))


@pytest.fixture(scope="module")
def guarded_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with guarded_node(tmp_path_factory.mktemp("guarded")) as node:
        yield node


async def test_a_handler_that_waits_for_the_database_is_not_late(
    database: MongoNode, unique: str
) -> None:
    """Its answer takes longer than the handler may."""
    settings = Settings(amqp_url="memory://", mongo_url=database.url, mongo_db=unique)
    diary = Diary()
    diary.open.clear()
    async with wallet.build(settings, diary, unique) as bus, Worker(bus):
        await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"))
        await until(lambda: diary.running, "the handler runs")
        slow = {"blockConnection": True, "blockTimeMS": 3500}
        with failing(database, "insert", 1, **slow):
            diary.open.set()

            async def thanked() -> bool:
                found = await bus.query(GetWallet(wallet_id="a"))
                return found is not None and found.thanks == 1

            await until(thanked, "it is thanked for")
        assert await bus.runtime.control.dead_letters() == []
        assert diary.seen == [("wallet-a", 1)]


@pytest.fixture
def guarded(guarded_of_module: MongoNode) -> MongoNode:
    """A database that asks who comes, with an administrator."""
    revive(guarded_of_module)
    return guarded_of_module


Users = Callable[..., None]


@pytest.fixture
def users(guarded: MongoNode) -> Iterator[Users]:
    """Gives the administrator's commands about users and roles."""
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        yield lambda command, name, **fields: client.admin.command(command, name, **fields)


def settings_of(guarded: MongoNode, unique: str, password: str = "first") -> Settings:
    url = url_of(guarded, unique, password)
    return Settings(amqp_url="memory://", mongo_url=url, mongo_db=unique)


async def until_not_allowed(bus: Bus, match: str) -> None:
    async def refused() -> bool:
        with suppress(OutcomeUnknown, StoreUnavailable):
            try:
                await bus.execute(Pay(wallet_id="refused", amount=1))
            except NotAllowed as error:
                return re.search(match, str(error)) is not None
        return False

    await until(refused, f"a command is told: {match}")


async def test_rights_that_are_revoked_and_granted_again_only_delay(
    guarded: MongoNode, users: Users, unique: str
) -> None:
    rights = [{"role": "readWrite", "db": unique}]
    users("createUser", unique, pwd="first", roles=rights)
    async with build(settings_of(guarded, unique), Post(), unique) as bus, Worker(bus):
        users("updateUser", unique, roles=[{"role": "read", "db": unique}])
        await until_not_allowed(bus, f"insert on the database '{unique}'.*action insert")
        await pay(bus, 3, "held")
        await asyncio.sleep(1)
        users("updateUser", unique, roles=rights)
        await all_done(bus, 3)


async def test_a_password_that_is_changed_and_changed_back_only_delays(
    guarded: MongoNode, users: Users, unique: str
) -> None:
    users("createUser", unique, pwd="first", roles=[{"role": "readWrite", "db": unique}])
    async with build(settings_of(guarded, unique), Post(), unique) as bus, Worker(bus):
        users("updateUser", unique, pwd="second")
        await asyncio.to_thread(guarded.kill)
        await asyncio.to_thread(guarded.start)
        await until_not_allowed(bus, "password")
        await pay(bus, 3, "held")
        await asyncio.sleep(1)
        users("updateUser", unique, pwd="first")
        await all_done(bus, 3)


async def test_a_bus_that_may_not_begin_says_what_it_lacks(
    guarded: MongoNode, users: Users, unique: str
) -> None:
    wrong = build(settings_of(guarded, unique, "wrong"), Post(), unique)
    with pytest.raises(ConfigurationError, match="password"):
        await wrong.__aenter__()
    actions = ["find", "insert", "update", "remove", "createCollection", "createIndex"]
    actions += ["listCollections", "listIndexes"]
    own = {"resource": {"db": unique, "collection": ""}, "actions": actions}
    users("createRole", unique, privileges=[own], roles=[])
    users("createUser", unique, pwd="first", roles=[unique])
    settings = settings_of(guarded, unique)
    async with build(settings, Post(), unique):
        pass
    longer = settings.model_copy(update={"handled_for": 3600})
    with pytest.raises(ConfigurationError, match="action collMod"):
        await build(longer, Post(), unique).__aenter__()


async def test_a_client_that_was_closed_is_told_as_that(
    database: MongoNode, client: Any, unique: str
) -> None:
    settings = Settings(amqp_url="memory://", mongo_url=database.url, mongo_db=unique)
    async with build(settings, Post(), unique, client=client) as bus:
        await close(client)
        with pytest.raises(StoreUnavailable, match="client was closed"):
            await bus.execute(Pay(wallet_id="a", amount=1))

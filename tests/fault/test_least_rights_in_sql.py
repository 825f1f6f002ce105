"""The rights that docs/stores.md gives on PostgreSQL and MariaDB: services run with them, logs are
moved with them, and with no more."""

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner

from bus import (
    Aggregate,
    Bus,
    Command,
    DeadLetters,
    Event,
    Outbox,
    Repository,
    RetryPolicy,
    Router,
    Settings,
    StoreUnavailable,
    Worker,
)
from bus.cli.main import app
from bus.continuity import continuity
from bus.operate import log_copy
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import log_at
from bus.stores.sql import connect, migrating
from tests.databases import drop
from tests.service.following_contract import GetPurse, Pay
from tests.service.moving import Bell, bank, outgoing, table_of_mails
from tests.waiting import problems, until
from tools.services import statements
from tools.services.sql_node import SQLNode

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
EACH = {
    "PostgreSQL": ("PASSWORD 'password'", "CREATE ON SCHEMA public TO maker"),
    "MariaDB": ("IDENTIFIED BY 'password'", "{rights} ON bank.* TO maker"),
    "MySQL": ("IDENTIFIED BY 'password'", "{rights} ON bank.* TO maker"),
}


class Users(NamedTuple):
    """URLs of the log's database: for whom made the tables, and for the service."""

    maker: str
    service: str


def rights_of_service() -> list[str]:
    """The two statements of the page, for PostgreSQL and for the others."""
    found = re.findall(r"^GRANT .* TO bank;", PAGE, re.MULTILINE)
    assert len(found) == 2
    return [one.rstrip(";") for one in found]


def rights_of_maker() -> str:
    """What the page says of MariaDB and MySQL."""
    found = re.search(r"^\| MariaDB, MySQL \| `([A-Z, ]+)` on the database", PAGE, re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
async def users(sql_node: SQLNode) -> Users:
    administrator = sql_node.create_database("bank")
    if sql_node.label == "MySQL":  # it keeps a binary log
        sql_node.sql("SET GLOBAL log_bin_trust_function_creators = 1")
    password, grant = EACH[sql_node.label]
    grant = f"GRANT {grant.format(rights=rights_of_maker())}"
    statements.run(
        administrator, f"CREATE USER maker {password}", f"CREATE USER bank {password}", grant
    )
    maker = statements.of_user(administrator, "maker", "password")
    async with migrating(maker) as migrations:
        await migrations.create()
    async with table_of_mails(maker):
        pass
    granted = rights_of_service()
    if statements.is_postgresql(maker):
        of_own_table = f"GRANT USAGE ON SEQUENCE {outgoing.name}_number_seq TO bank"
        statements.run(maker, granted[0], of_own_table)
    else:
        statements.run(administrator, granted[1])
    return Users(maker, statements.of_user(administrator, "bank", "password"))


def may_define_nothing(url: str) -> None:
    for statement in (
        "CREATE TABLE others (id int)",
        "DROP TABLE bus_commits",
        "ALTER TABLE bus_commits ADD other int",
        "CREATE INDEX other ON bus_commits (first)",
    ):
        with pytest.raises(statements.REFUSALS):
            statements.run(url, statement)


def checked(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `bus stores check` says."""
    monkeypatch.setenv("BUS_LOG_URL", url)
    monkeypatch.setenv("BUS_AMQP_URL", "memory://")
    monkeypatch.setenv("MOVING_SERVICE", "bank")
    words = ["stores", "check", "tests.service.moving_service:build"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_a_service_beside_mongodb_needs_the_rights_of_the_page(
    users: Users, mongo_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        amqp_url="memory://",
        mongo_url=mongo_url,
        mongo_db=unique,
        log_url=users.service,
        declare="never",
        sweep_every=1,
    )
    may_define_nothing(users.service)
    async with bank(settings, "bank", Bell()) as bus, Worker(bus):
        for amount in (1, 2):
            receipt = await bus.execute(Pay(purse_id="a", amount=amount))
        view = await bus.query(GetPurse(purse_id="a"), after=receipt, timeout=20)
        assert view is not None
        assert view.amounts == [1, 2]

        async def mailed() -> bool:
            rows = statements.run(users.service, f"SELECT id FROM {outgoing.name}")
            return len(rows) == 2

        await until(mailed, "event handlers with a session ran")
        await until(lambda: all_published(bus), "all is published")
        assert not [one for one in await problems(bus) if "relay" not in str(one)]
    assert "the tables are there" in await asyncio.to_thread(checked, users.service, monkeypatch)
    await drop(mongo_url, unique)


async def all_published(bus: Bus) -> bool:
    log = bus.runtime.event_log
    return not await log.pending(log_copy.FAR_OFF, 1)


class Add(Command):
    tally: str
    mood: str = ""


class Added(Event):
    mood: str


class Noted(Event):
    pass


class Tally(Aggregate, stored="state"):
    total: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Added():
                self.total += 1


def tallies(settings: Settings, mended: asyncio.Event) -> Bus:
    """A service that needs no MongoDB, with all that it may keep in SQL."""
    router = Router("tallies", retry=RetryPolicy(tries=1, delays=()))

    @router.command
    async def add(
        command: Add, tallies: Repository[Tally], session: AsyncSession, outbox: Outbox
    ) -> int:
        tally = await tallies.find(command.tally)
        if tally is None:
            tally = Tally(command.tally)
            tallies.add(tally)
        tally.record(Added(mood=command.mood))
        await session.execute(outgoing.insert().values(id=command.tally))
        return tally.total

    @router.event
    async def on_added(event: Added, session: AsyncSession) -> None:
        if event.mood == "bad" and not mended.is_set():
            raise RuntimeError("as asked")

    return Bus("bank", routers=[router], settings=settings)


async def test_a_service_without_mongodb_needs_the_rights_of_the_page(users: Users) -> None:
    settings = Settings(
        amqp_url="memory://", mongo_url="", log_url=users.service, declare="never", sweep_every=1
    )
    mended = asyncio.Event()
    async with tallies(settings, mended) as bus, Worker(bus):
        assert (await bus.execute(Add(tally="a"), id="once")).result == 1
        assert (await bus.execute(Add(tally="a"), id="once")).result == 1
        assert (await bus.execute(Add(tally="a", mood="bad"))).result == 2
        letters = DeadLetters(bus)

        async def given_up() -> bool:
            return len(await letters.list()) == 1

        await until(given_up, "one is given up")
        mended.set()
        assert len((await letters.retry(all=True)).done) == 1
        await until(lambda: all_published(bus), "all is published")
    may_define_nothing(users.service)


async def test_sessions_of_an_application_need_the_rights_of_the_page(
    users: Users, sql_node: SQLNode
) -> None:
    password, _ = EACH[sql_node.label]
    place = "" if statements.is_postgresql(users.maker) else "bank."
    administrator = sql_node.url_of("bank")
    statements.run(
        administrator,
        f"CREATE USER app {password}",
        f"GRANT SELECT ON {place}bus_schema TO app",
        f"GRANT SELECT, INSERT ON {place}bus_commits TO app",
    )
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=users.service, declare="never")
    engine = connect(statements.of_user(users.maker, "app", "password"), transacts=True)
    async with tallies(settings, asyncio.Event()) as bus:
        async with AsyncSession(engine) as session:
            async with bus.unit_of_work(session) as work:
                work.publish(Noted(), stream="note-1")
            await session.commit()
        await until(lambda: all_published(bus), "it is published")
        assert len(await bus.runtime.event_log.read("note-1")) == 1
    await engine.dispose()


async def test_a_log_is_moved_with_the_rights_of_the_page_and_its_service_says_where_it_went(
    users: Users, mongo_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 0.2)
    in_mongodb = Settings(amqp_url="memory://", mongo_url=mongo_url, mongo_db=unique)
    in_sql = in_mongodb.model_copy(update={"log_url": users.service, "declare": "never"})
    of_copy = bank(in_mongodb, "bank", Bell())
    async with bank(in_sql, "bank", Bell()) as bus:
        await bus.execute(Pay(purse_id="a", amount=1))
        await moved(of_copy, users.maker, "mongodb")
        with pytest.raises(StoreUnavailable, match=r"was moved to MongoDB .*no BUS_LOG_URL"):
            await bus.execute(Pay(purse_id="a", amount=2))

        async def said() -> bool:
            return "was moved to MongoDB" in str(await bus.health())

        await until(said, "health says where the log went")
    async with bank(in_mongodb, "bank", Bell()) as bus:
        await bus.execute(Pay(purse_id="a", amount=2))
        await moved(of_copy, "mongodb", users.maker)
    async with bank(in_sql, "bank", Bell()) as bus:
        assert (await bus.execute(Pay(purse_id="a", amount=3))).result == 3
    await drop(mongo_url, unique)


async def moved(bus: Bus, origin: str, target: str) -> None:
    async with (
        log_at(bus, origin, makes=False) as old,
        log_at(bus, target, makes=True) as new,
    ):
        assert (await LogCopy("bank", old, new).finish()).state == "moved"

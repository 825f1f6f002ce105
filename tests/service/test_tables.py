"""A service whose handlers write tables of its own, without MongoDB, on each SQL server."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    Event,
    Projection,
    Router,
    Session,
    Settings,
    Worker,
)
from bus.stores.event_log import Commit
from tests.service.ordering import (
    AddItem,
    Mail,
    PlaceOrder,
    Probe,
    build,
    make_tables,
    orders,
)
from tests.waiting import until


class Broken(Exception):
    pass


@pytest.fixture
def settings(sql_url: str) -> Settings:
    return Settings(amqp_url="memory://", mongo_url="", log_url=sql_url)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def engine(sql_url: str) -> AsyncIterator[AsyncEngine]:
    """The test's own."""
    engine = create_async_engine(sql_url)
    await make_tables(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
async def bus(settings: Settings, probe: Probe, engine: AsyncEngine) -> AsyncIterator[Bus]:
    async with build(settings, probe) as bus:
        yield bus


async def rows(engine: AsyncEngine, of: Any) -> list[Any]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(sa.select(of))]


async def versions(bus: Bus, stream: str) -> list[int]:
    commits = await bus.runtime.event_log.read(stream)
    return [n for commit in commits for n in range(commit.first, commit.last + 1)]


ORDER = PlaceOrder(order_id="1", customer="ada", cents=5)


async def test_rows_events_and_the_commands_id_are_one(bus: Bus, engine: AsyncEngine) -> None:
    receipt = await bus.execute(ORDER, id="k1")
    assert receipt.versions == {"customer-ada": 1, "order-1": 1}
    assert receipt.result == 1
    again = await bus.execute(ORDER, id="k1")
    assert (again.versions, again.result) == (receipt.versions, 1)
    assert await rows(engine, orders) == [("1", "ada", 5)]
    found = await asyncio.gather(*[bus.execute(AddItem(order_id="1", cents=1)) for _ in range(20)])
    assert sorted(one.result for one in found) == list(range(6, 26))
    assert await rows(engine, orders) == [("1", "ada", 25)]
    assert await versions(bus, "order-1") == list(range(1, 22))


async def test_a_commands_error_leaves_nothing(bus: Bus, engine: AsyncEngine, probe: Probe) -> None:
    async def breaks(session: AsyncSession) -> None:
        await session.flush()
        raise Broken

    probe.meanwhile = breaks
    with pytest.raises(Broken):
        await bus.execute(ORDER, id="k1")
    probe.meanwhile = Probe().meanwhile
    assert await rows(engine, orders) == []
    assert await versions(bus, "order-1") == []
    assert (await bus.execute(ORDER, id="k1")).result == 1
    with pytest.raises(IntegrityError):  # the customer has an order already
        await bus.execute(ORDER.model_copy(update={"order_id": "2"}))
    assert await versions(bus, "order-2") == []
    assert await versions(bus, "customer-ada") == [1]


async def test_a_command_that_records_nothing_is_remembered(bus: Bus, probe: Probe) -> None:
    for _ in range(2):
        assert (await bus.execute(AddItem(order_id="9", cents=1), id="k1")).result is None
    assert probe.runs == 1


async def test_an_events_rows_are_written_once(
    bus: Bus, engine: AsyncEngine, settings: Settings
) -> None:
    async with Worker(bus):
        await bus.execute(ORDER)
        (commit,) = await bus.runtime.event_log.read("order-1")

        async def mailed() -> bool:
            return len(await rows(engine, Mail.text)) == 2

        await until(mailed, "both mails")
        await bus.runtime.publisher.publish([commit], [_frames(commit)])
        await asyncio.sleep(0.3)
    assert sorted(await rows(engine, Mail.text)) == [("placed 1",), ("remind 1",)]
    assert len(await bus.runtime.effects.marks("", 9)) == 1
    health = await bus.health()
    assert health.ready, health


def _frames(commit: Commit) -> Any:
    from bus.codec import frames_of

    return frames_of(commit)


async def test_what_needs_mongodb_is_refused_when_the_bus_is_built(settings: Settings) -> None:
    class Thing(Aggregate):
        pass

    class Seen(Event):
        pass

    class View(BaseModel):
        id: str

    things = Projection("things", of=[Thing], view=View)

    @things.on(Seen)
    def seen(event: Seen) -> Any:
        return {}

    with pytest.raises(ConfigurationError, match=r"projection 'things'.*set BUS_MONGO_URL"):
        Bus("s", projections=[things], settings=settings)


class Do(Command):
    pass


async def test_the_other_databases_session_is_refused(settings: Settings, mongo_url: str) -> None:
    mongo = Router("mongo")

    @mongo.command
    async def by_documents(command: Do, session: Session) -> None: ...

    with pytest.raises(ConfigurationError, match=r"by_documents.*is AsyncSession for this bus"):
        Bus("s", routers=[mongo], settings=settings)
    sql = Router("sql")

    @sql.command
    async def by_rows(command: Do, session: AsyncSession) -> None: ...

    for other in (
        Settings(amqp_url="memory://", mongo_url=mongo_url),
        Settings.in_memory(),
    ):
        with pytest.raises(ConfigurationError, match=r"by_rows.*in SQL \(BUS_LOG_URL\)"):
            Bus("s", routers=[sql], settings=other)
    with pytest.raises(ConfigurationError, match=r"provide=\{AsyncSession"):
        Bus("s", routers=[sql], settings=settings, provide={AsyncSession: object()})


async def test_without_any_database_the_settings_say_so() -> None:
    with pytest.raises(ConfigurationError, match="BUS_MONGO_URL: is not set; write mongodb://"):
        Settings(amqp_url="memory://", mongo_url="")


KILLED = """
import asyncio, os, sys
from bus import Settings
from tests.service.ordering import ORDER, Probe, build

async def main():
    probe = Probe()
    async def dies(session):
        await session.flush()
        os._exit(9)
    probe.meanwhile = dies
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=sys.argv[1])
    async with build(settings, probe) as bus:
        await bus.execute(PlaceOrder(order_id="1", customer="ada", cents=5), id="k1")

asyncio.run(main())
""".replace("ORDER, Probe", "PlaceOrder, Probe")


async def test_a_process_that_dies_in_the_transaction_leaves_nothing(
    bus: Bus, engine: AsyncEngine, sql_url: str
) -> None:
    root = str(Path(__file__).parents[2])
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, sql_url, env={**os.environ, "PYTHONPATH": root}
    )
    assert await program.wait() == 9
    assert await rows(engine, orders) == []
    assert (await bus.execute(ORDER, id="k1")).result == 1
    assert await rows(engine, orders) == [("1", "ada", 5)]


async def test_with_mongodb_besides_documents_stay_there(
    sql_url: str, mongo_url: str, unique: str, engine: AsyncEngine, probe: Probe
) -> None:
    settings = Settings(amqp_url="memory://", log_url=sql_url, mongo_url=mongo_url, mongo_db=unique)
    async with build(settings, probe) as bus:
        await bus.execute(ORDER, id="k1")
        assert type(bus.runtime.control).__name__ == "MongoControl"
    assert await rows(engine, orders) == [("1", "ada", 5)]

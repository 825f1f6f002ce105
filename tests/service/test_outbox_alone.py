"""Events that go with an application's own transaction, without any handler, on each SQL server."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from bus import (
    Aggregate,
    Bus,
    Command,
    ConcurrencyError,
    ConfigurationError,
    Event,
    InvalidMessage,
    Repository,
    Router,
    Settings,
)
from bus.common import clock
from bus.stores.event_log import Commit
from bus.stores.sql import SqlEventLog, connect
from bus.stores.sql.sessions.joining import JoinedSession
from bus.write.relay import Relay
from tests.waiting import until
from tools.services import statements


class Base(orm.DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(50), primary_key=True)
    cents: orm.Mapped[int]


class OrderPlaced(Event):
    order_id: str
    note: str = ""


class Ship(Command):
    order_id: str


Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def settings(sql_url: str) -> Settings:
    return Settings(amqp_url="memory://", mongo_url="", log_url=sql_url)


@pytest.fixture
async def engine(sql_url: str) -> AsyncIterator[AsyncEngine]:
    """The application's own."""
    engine = create_async_engine(sql_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine)


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    async with Bus("shop", settings=settings) as bus:
        yield bus


@pytest.fixture
def published(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams of what the publisher was offered."""
    offered: list[str] = []
    offer = bus.runtime.publisher.offer

    def noted(commits: Any, frames: Any) -> None:
        offered.extend(commit.stream for commit in commits)
        offer(commits, frames)

    monkeypatch.setattr(bus.runtime.publisher, "offer", noted)
    return offered


async def versions(bus: Bus, stream: str) -> list[int]:
    commits = await bus.runtime.event_log.read(stream)
    return [n for commit in commits for n in range(commit.first, commit.last + 1)]


async def pending(bus: Bus) -> list[Commit]:
    return await bus.runtime.event_log.pending(clock.now().replace(year=9000), 99)


def placed(id: str) -> OrderPlaced:
    return OrderPlaced(order_id=id, note="größer 🚌 \\ ' \" %s")


async def place(bus: Bus, session: AsyncSession, id: str) -> None:
    session.add(Order(id=id, cents=1))
    async with bus.unit_of_work(session) as work:
        work.publish(placed(id), stream=f"order-{id}")


# --- all or nothing ------------------------------------------------------------------------------


async def test_what_is_committed_is_published_at_once(
    bus: Bus, sessions: Sessions, published: list[str]
) -> None:
    async with sessions() as session:
        await place(bus, session, "1")
        assert published == []
        await session.commit()
        assert published == ["order-1"]
        await place(bus, session, "2")
        await session.commit()
    assert published == ["order-1", "order-2"]
    (commit,) = await bus.runtime.event_log.read("order-1")
    assert commit.events[0].data == {"order_id": "1", "note": "größer 🚌 \\ ' \" %s"}
    assert commit.message == "OrderPlaced"

    async def confirmed() -> bool:
        return not await pending(bus)

    await until(confirmed, "its mark to be cleared")


@pytest.mark.parametrize("ending", ["rollback", "close", "error"])
async def test_what_is_not_committed_never_was(
    bus: Bus, sessions: Sessions, published: list[str], ending: str
) -> None:
    async with sessions() as session:
        await place(bus, session, "1")
        if ending == "error":
            session.add(Order(id="1", cents=1))
            with pytest.raises(Exception, match="1"):
                await session.commit()
            await session.rollback()
        else:
            await getattr(session, ending)()
        session.expunge_all()
        await place(bus, session, "2")
        await session.commit()
    assert published == ["order-2"]
    assert await versions(bus, "order-1") == []
    assert [commit.stream for commit in await pending(bus)] in ([], ["order-2"])


async def test_an_error_within_the_block_publishes_nothing(
    bus: Bus, sessions: Sessions, published: list[str]
) -> None:
    async with sessions() as session:
        with suppress(ZeroDivisionError):
            async with bus.unit_of_work(session) as work:
                work.publish(placed("1"), stream="order-1")
                raise ZeroDivisionError
        await session.commit()
    assert published == []
    assert await versions(bus, "order-1") == []


async def test_savepoints_are_followed(bus: Bus, sessions: Sessions, published: list[str]) -> None:
    async with sessions() as session:
        await place(bus, session, "1")
        outer = await session.begin_nested()
        await place(bus, session, "2")
        async with session.begin_nested():
            await place(bus, session, "3")
        await outer.rollback()
        async with session.begin_nested():
            await place(bus, session, "4")
        assert published == []
        await session.commit()
    assert published == ["order-1", "order-4"]
    for id, expected in (("1", [1]), ("2", []), ("3", []), ("4", [1])):
        assert await versions(bus, f"order-{id}") == expected


async def test_within_somebody_elses_transaction_the_relay_publishes(
    bus: Bus, engine: AsyncEngine, published: list[str]
) -> None:
    async with engine.connect() as connection:
        for ends in ("rollback", "commit"):
            transaction = await connection.begin()
            async with AsyncSession(connection) as session:
                await place(bus, session, ends)
                await session.commit()
            assert published == []
            await getattr(transaction, ends)()
    assert published == []
    assert [commit.stream for commit in await pending(bus)] == ["order-commit"]


async def test_the_relay_takes_what_was_not_offered(bus: Bus, sessions: Sessions) -> None:
    """The process ended between the commit and the offer."""
    async with sessions() as session:
        await place(bus, session, "1")
        session.info["bus_pending"]._waiting.clear()
        await session.commit()
    (commit,) = await pending(bus)
    assert commit.stream == "order-1"
    relay = Relay(bus.runtime.event_log, bus.runtime.publisher, bus.runtime.control)
    await until(relay.relay_once, "the relay to publish it")
    assert await pending(bus) == []


# --- streams -------------------------------------------------------------------------------------


async def test_versions_go_on_within_one_transaction_and_after_it(
    bus: Bus, sessions: Sessions
) -> None:
    async with sessions() as session:
        for _ in range(2):
            async with bus.unit_of_work(session) as work:
                work.publish(placed("1"), stream="order-1")
                work.publish(placed("1"), stream="order-1")
                work.publish(placed("2"), stream="order-2")
                work.publish(placed("3"))
                work.send(Ship(order_id="1"))
        await session.commit()
        async with bus.unit_of_work(session, correlation_id="talk") as work:
            work.publish(placed("1"), stream="order-1")
        await session.commit()
    assert await versions(bus, "order-1") == [1, 2, 3, 4, 5]
    assert await versions(bus, "order-2") == [1, 2]
    last = (await bus.runtime.event_log.read("order-1"))[-1]
    assert last.correlation_id == "talk"
    own = [c for c in await pending(bus) if c.category == "shop"]
    assert len(own) in (0, 2)


async def test_of_two_that_meet_in_a_stream_one_is_told(
    bus: Bus, sessions: Sessions, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, read = JoinedSession.heads, asyncio.Event()

    async def noted(joined: JoinedSession, streams: Sequence[str]) -> dict[str, int]:
        found = await heads(joined, streams)
        if joined._session is second:
            read.set()
        return found

    monkeypatch.setattr(JoinedSession, "heads", noted)
    async with sessions() as first, sessions() as second:
        await place(bus, first, "1")
        await second.connection()
        session = asyncio.ensure_future(add(bus, second, "1"))
        await asyncio.wait_for(read.wait(), 60)
        await first.commit()
        with pytest.raises(ConcurrencyError, match="roll the session back and do all of it again"):
            await session
        await second.rollback()
        await add(bus, second, "1")
        await second.commit()
    assert await versions(bus, "order-1") == [1, 2]
    assert published == ["order-1", "order-1"]


async def add(bus: Bus, session: AsyncSession, id: str) -> None:
    async with bus.unit_of_work(session) as work:
        work.publish(placed(id), stream=f"order-{id}")


async def test_while_one_transaction_is_open_nothing_is_skipped(
    bus: Bus, sessions: Sessions
) -> None:
    log: Any = bus.runtime.event_log
    async with sessions() as slow, sessions() as quick:
        await place(bus, slow, "slow")
        began = log.now()
        for number in range(5):
            await place(bus, quick, f"q{number}")
            await quick.commit()
        await asyncio.sleep(1.1)
        assert await log.settled() <= began
        seen = {commit.stream async for commit in log.arrived(["order"])}
        assert len(seen) == 5
        settled = await log.settled()
        await slow.commit()
        later = {commit.stream async for commit in log.arrived(["order"], settled)}
        assert "order-slow" in later


# --- what is refused -----------------------------------------------------------------------------


async def test_what_is_no_session_of_the_applications_is_refused(
    bus: Bus, engine: AsyncEngine, sql_url: str
) -> None:
    async with engine.connect() as connection:
        for other in (connection, engine, orm.Session(), None, AsyncSession):
            with pytest.raises(ConfigurationError, match="it takes an AsyncSession"):
                bus.unit_of_work(other)
    closed = AsyncSession(engine, close_resets_only=False)
    await closed.close()
    for session in (closed, AsyncSession(engine, autobegin=False)):
        with pytest.raises(ConfigurationError, match="has no transaction and begins none"):
            await add(bus, session, "1")
    itself = create_async_engine(sql_url, isolation_level="AUTOCOMMIT")
    async with AsyncSession(itself) as session:
        with pytest.raises(ConfigurationError, match="commits each statement by itself"):
            await add(bus, session, "1")
    await itself.dispose()
    async with AsyncSession(engine) as session:
        own = engine.execution_options(isolation_level="AUTOCOMMIT")
        async with AsyncSession(own) as session:
            with pytest.raises(ConfigurationError, match="commits each statement by itself"):
                await add(bus, session, "1")
    assert await versions(bus, "order-1") == []


async def test_another_database_is_refused(bus: Bus, sql_url: str, unique: str) -> None:
    server = statements.of_database(sql_url, "postgres" if "postgresql" in sql_url else "")
    for name, has_tables in ((f"{unique}_a", False), (f"{unique}_b", True)):
        url = statements.create_database(server, name)
        if has_tables:
            other = connect(url)
            await SqlEventLog(other).open()
            await other.dispose()
        engine = create_async_engine(url)
        async with AsyncSession(engine) as session:
            with pytest.raises(ConfigurationError, match="not that of BUS_LOG_URL"):
                await add(bus, session, "1")
        await engine.dispose()
        await asyncio.to_thread(statements.drop_database, server, name)


async def test_without_a_log_in_sql_it_is_refused(engine: AsyncEngine) -> None:
    async with Bus("shop", settings=Settings.in_memory()) as bus, AsyncSession(engine) as session:
        with pytest.raises(ConfigurationError, match="set BUS_LOG_URL"):
            bus.unit_of_work(session)


async def test_a_handlers_session_is_refused(settings: Settings, engine: AsyncEngine) -> None:
    router = Router("r")

    @router.command
    async def ship(command: Ship, session: AsyncSession) -> None:
        shop.unit_of_work(session)

    async with Bus("shop", routers=[router], settings=settings) as shop:
        with pytest.raises(ConfigurationError, match="let the handler take an Outbox"):
            await shop.execute(Ship(order_id="1"))


async def test_what_comes_after_the_block_and_what_is_no_stream_is_refused(
    settings: Settings, sessions: Sessions
) -> None:
    router = Router("r")

    class Parcel(Aggregate):
        pass

    @router.command
    async def ship(command: Ship, parcels: Repository[Parcel]) -> None: ...

    async with Bus("shop", routers=[router], settings=settings) as bus, sessions() as session:
        bad: Any = object()
        async with bus.unit_of_work(session) as work:
            with pytest.raises(InvalidMessage, match="not the name of a stream"):
                work.publish(placed("1"), stream="Order")
            with pytest.raises(ConfigurationError, match="aggregate Parcel"):
                work.publish(placed("1"), stream="parcel-1")
            with pytest.raises(InvalidMessage):
                work.publish(OrderPlaced.model_construct(order_id=bad))
        for late in (lambda: work.publish(placed("1")), lambda: work.send(Ship(order_id="1"))):
            with pytest.raises(ConfigurationError, match="its unit of work is over"):
                late()
        await session.commit()
        assert await pending(bus) == []


# --- in applications -----------------------------------------------------------------------------


def application(bus: Bus, sessions: Sessions) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with bus:
            yield

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions.begin() as session:
            yield session

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders/{id}")
    async def post(id: str, session: AsyncSession = Depends(session, scope="function")) -> None:  # noqa: B008
        session.add(Order(id=id, cents=1))
        async with bus.unit_of_work(session) as work:
            work.publish(placed(id), stream=f"order-{id}")
        if id == "bad":
            raise HTTPException(409)
        await session.flush()

    return app


async def test_in_a_fastapi_application(settings: Settings, sessions: Sessions) -> None:
    bus = Bus("shop", settings=settings)
    app = application(bus, sessions)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            answers = await asyncio.gather(*[client.post(f"/orders/{n}") for n in range(20)])
            assert {answer.status_code for answer in answers} == {200}
            assert (await client.post("/orders/bad")).status_code == 409
            with pytest.raises(IntegrityError):
                await client.post("/orders/1")
        for number in range(20):
            assert await versions(bus, f"order-{number}") == [1]
        assert await versions(bus, "order-bad") == []


SCRIPT = """
import asyncio, sys
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from bus import Bus, Event, Settings

class OrderPlaced(Event):
    order_id: str

async def main():
    engine = create_async_engine(sys.argv[1])
    settings = Settings(amqp_url=sys.argv[2], mongo_url="", log_url=sys.argv[1])
    async with Bus(sys.argv[3], settings=settings) as bus:
        async with async_sessionmaker(engine).begin() as session:
            async with bus.unit_of_work(session) as work:
                work.publish(OrderPlaced(order_id="1"), stream="order-1")
    await engine.dispose()

asyncio.run(main())
"""


async def test_in_a_script(sql_url: str, amqp_url: str, unique: str) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, sql_url, amqp_url, unique
    )
    assert await program.wait() == 0
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=sql_url)
    async with Bus(unique, settings=settings) as bus:
        assert await versions(bus, "order-1") == [1]
        assert await pending(bus) == []

"""What a handler writes by SQLAlchemy's AsyncSession happens once and whole, or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from bus.common import clock
from bus.errors import ConcurrencyError, IdConflict, InvalidMessage, ProjectionError
from bus.stores.event_log import Commit, Recorded
from bus.stores.sql import SqlEffects, SqlEventLog, connect
from bus.stores.sql.sessions import attempts, marks
from bus.testing.contracts.effects_contract import booking
from tools.services import statements

Write = Callable[[AsyncSession], Awaitable[Any]]


class Base(orm.DeclarativeBase):
    pass


class Total(Base):
    __tablename__ = "totals"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(50), primary_key=True)
    n: orm.Mapped[int]


class Broken(Exception):
    pass


def handling(write: Write, *commits: Commit) -> Any:
    async def handle(session: AsyncSession) -> Sequence[Commit]:
        await write(session)
        return commits

    return handle


async def counted(session: AsyncSession) -> None:
    total = await session.get(Total, "all", with_for_update=True)
    if total is None:
        session.add(Total(id="all", n=1))
    else:
        total.n += 1


async def nothing(session: AsyncSession) -> None: ...


class World:
    def __init__(self, engine: AsyncEngine, log: SqlEventLog, effects: SqlEffects) -> None:
        self.engine, self.log, self.effects = engine, log, effects

    async def totals(self) -> dict[str, int]:
        async with self.engine.connect() as connection:
            rows = await connection.execute(sa.select(Total.id, Total.n))
            return {row.id: row.n for row in rows}

    async def idle(self) -> bool:
        pool: Any = self.effects._transactions.engine.sync_engine.pool
        return not pool.checkedout()


@pytest.fixture
async def world(sql_url: str) -> AsyncIterator[World]:
    engine = connect(sql_url)
    log = SqlEventLog(engine)
    await log.open()
    async with engine.connect() as connection:
        await connection.run_sync(Base.metadata.create_all)
    effects = SqlEffects(engine, log, handled_for=3600)
    await effects.open()
    yield World(engine, log, effects)
    await effects.close()
    await log.close()
    await engine.dispose()


# --- events --------------------------------------------------------------------------------------


async def test_an_event_is_handled_once(world: World) -> None:
    own = booking(id="k")
    found = await world.effects.once("e1", handling(counted, own))
    assert found is not None
    assert list(found) == [own]
    assert await world.effects.once("e1", handling(counted, own)) is None
    assert await world.totals() == {"all": 1}
    assert await world.log.find("k") == [own]
    assert await world.effects.marks("", 9) == ["e1"]


async def test_many_deliveries_of_one_event_have_one_effect(world: World) -> None:
    found = await asyncio.gather(*[world.effects.once("e1", handling(counted)) for _ in range(10)])
    assert sum(one is not None for one in found) == 1
    assert await world.totals() == {"all": 1}


async def test_marks_are_listed_and_forgotten(world: World) -> None:
    for number in range(3):
        await world.effects.once(f"e{number}", handling(nothing))
    assert await world.effects.marks("e0", 1) == ["e1"]
    await world.effects.forget(["e0", "e2", "e9"])
    assert await world.effects.marks("", 9) == ["e1"]


async def test_a_commit_that_is_stored_already_counts_as_a_mark(world: World) -> None:
    await world.effects.once("e1", handling(counted, booking(id="k")))
    await world.effects.forget(["e1"])
    assert await world.effects.once("e1", handling(counted, booking(id="k"))) is None
    assert await world.totals() == {"all": 1}
    other = booking(id="k")._replace(causation_id="another")
    with pytest.raises(IdConflict):
        await world.effects.once("e2", handling(counted, other))


async def test_old_marks_are_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "AT_A_TIME", 2)
    for number in range(5):
        await world.effects.once(f"e{number}", handling(nothing))
    kept = marks.Marks(world.effects._database)
    await kept.forget_old(60)
    assert len(await world.effects.marks("", 9)) == 5
    await asyncio.sleep(0.01)
    await kept.forget_old(0)
    assert await world.effects.marks("", 9) == []


# --- commands ------------------------------------------------------------------------------------


async def test_a_commands_rows_and_commits_are_stored_at_once_and_once(world: World) -> None:
    own = (booking(id="k"), booking("ledger-b", id="k/2"))
    assert list(await world.effects.commit(handling(counted, *own))) == list(own)
    assert await world.log.find("k") == list(own)
    assert len(await world.log.pending(clock.now().replace(year=9000), 9)) == 2
    for repeat in (own[0], own[0]._replace(result=8), booking("ledger-c", id="k")):
        assert list(await world.effects.commit(handling(counted, repeat))) == list(own)
    assert await world.totals() == {"all": 1}
    assert await world.log.read("ledger-c") == []
    assert await world.effects.marks("", 9) == []


async def test_where_a_place_is_taken_a_command_writes_nothing(world: World) -> None:
    await world.log.append([booking(id="earlier")])
    for own in ([booking(id="k")], [booking("ledger-b", id="k"), booking(id="k/2")]):
        with pytest.raises(ConcurrencyError, match="ledger-a"):
            await world.effects.commit(handling(counted, *own))
    assert await world.totals() == {}
    assert await world.log.find("k") == []
    assert await world.effects.commit(handling(counted, booking(id="k", first=2)))


async def test_many_commands_that_count_in_one_row_count_exactly(world: World) -> None:
    async def run(number: int) -> None:
        own = booking(f"ledger-{number}", id=f"k{number}")
        while True:
            with suppress(IntegrityError):  # two that insert the row: the service's own conflict
                await world.effects.commit(handling(counted, own))
                return

    await asyncio.gather(*map(run, range(30)))
    assert await world.totals() == {"all": 30}
    assert await world.idle()


async def test_its_own_error_passes_and_nothing_is_stored(world: World) -> None:
    async def breaks(session: AsyncSession) -> None:
        await counted(session)
        await session.flush()
        raise Broken

    for wrapped in (False, True):

        async def fails(session: AsyncSession, wrapped: bool = wrapped) -> None:
            if wrapped:
                async with asyncio.TaskGroup() as group:
                    group.create_task(breaks(session))
            else:
                await breaks(session)

        with pytest.raises(Broken):
            await world.effects.commit(handling(fails, booking(id="k")))
    assert await world.totals() == {}
    assert await world.log.find("k") == []
    assert await world.idle()


async def test_an_integrity_error_is_the_handlers_own(world: World) -> None:
    async def twice(session: AsyncSession) -> None:
        session.add(Total(id="a", n=1))
        await session.flush()
        session.expunge_all()
        session.add(Total(id="a", n=2))

    async def by_statement(session: AsyncSession) -> None:
        for _ in range(2):
            await session.execute(sa.insert(Total).values(id="a", n=1))

    for write in (twice, by_statement):
        with pytest.raises(IntegrityError):
            await world.effects.commit(handling(write, booking(id="k")))
    assert await world.totals() == {}
    assert await world.log.find("k") == []
    assert await world.idle()


async def test_an_error_in_a_savepoint_may_be_swallowed(world: World) -> None:
    async def tries(session: AsyncSession) -> None:
        session.add(Total(id="a", n=1))
        await session.flush()
        with suppress(IntegrityError):
            async with session.begin_nested():
                await session.execute(sa.insert(Total).values(id="a", n=2))
        nested = await session.begin_nested()
        session.add(Total(id="b", n=1))
        await nested.rollback()
        await session.begin_nested()
        session.add(Total(id="c", n=1))

    await world.effects.commit(handling(tries, booking(id="k")))
    assert await world.totals() == {"a": 1, "c": 1}


async def test_a_swallowed_error_that_ended_the_transaction_is_told(world: World) -> None:
    async def by_flush(session: AsyncSession) -> None:
        await session.execute(sa.insert(Total).values(id="a", n=1))
        session.add(Total(id="a", n=1))
        with suppress(IntegrityError):
            await session.flush()

    async def and_goes_on(session: AsyncSession) -> None:
        await by_flush(session)
        await session.execute(sa.insert(Total).values(id="b", n=1))

    async def by_statement(session: AsyncSession) -> None:
        with suppress(DBAPIError):
            await session.execute(sa.text("SELECT no_such_column FROM totals"))

    writes = [by_flush, and_goes_on]
    if world.engine.dialect.name == "postgresql":  # in MySQL, the transaction stands
        writes.append(by_statement)
    for write in writes:
        with pytest.raises(ProjectionError, match="swallowed"):
            await world.effects.commit(handling(write, booking(id="k")))
        with pytest.raises(ProjectionError, match="swallowed"):
            await world.effects.once("e", handling(write))
    assert await world.totals() == {}
    assert await world.log.find("k") == []
    assert await world.idle()


ENDINGS: dict[str, Write] = {
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "close": lambda session: session.close(),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "begin": lambda session: session.begin().__aenter__(),
    "sync commit": lambda session: session.run_sync(lambda sync: sync.commit()),
    "raw commit": lambda session: session.execute(sa.text(" commit")),
    "raw rollback": lambda session: session.execute(sa.text("ROLLBACK;")),
    "raw begin": lambda session: session.execute(sa.text("BEGIN")),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_handler_cannot_end_its_transaction(world: World, name: str) -> None:
    async def ends(session: AsyncSession) -> None:
        await counted(session)
        await session.flush()
        await ENDINGS[name](session)

    with pytest.raises(ProjectionError, match=r"is refused, because the bus commits"):
        await world.effects.commit(handling(ends, booking(id="k")))
    assert await world.totals() == {}

    async def goes_on(session: AsyncSession) -> None:
        with suppress(ProjectionError):
            await ends(session)

    await world.effects.commit(handling(goes_on, booking(id="k")))
    assert await world.totals() == {"all": 1}
    assert await world.idle()


async def test_a_handler_cannot_end_it_by_its_connection(world: World) -> None:
    async def commits(session: AsyncSession) -> None:
        await counted(session)
        await session.flush()
        connection = await session.connection()
        await connection.commit()

    async def swallows(session: AsyncSession) -> None:
        with suppress(ProjectionError):
            await commits(session)

    async def rolls_back(session: AsyncSession) -> None:
        await counted(session)
        await session.flush()
        await (await session.connection()).rollback()

    for write, words in ((commits, "refused"), (swallows, "swallowed"), (rolls_back, "had ended")):
        with pytest.raises(ProjectionError, match=words):
            await world.effects.commit(handling(write, booking(id="k")))
    assert await world.totals() == {}
    assert await world.log.find("k") == []
    assert await world.idle()


async def test_ddl_that_would_commit_is_refused_on_mysql(world: World) -> None:
    if world.engine.dialect.name == "postgresql":
        pytest.skip("PostgreSQL has DDL within transactions")

    async def defines(session: AsyncSession) -> None:
        await counted(session)
        await session.execute(sa.text("CREATE TABLE other (n int)"))

    with pytest.raises(ProjectionError, match="CREATE is refused"):
        await world.effects.commit(handling(defines, booking(id="k")))
    assert await world.totals() == {}


async def test_a_session_is_not_used_after_its_handler(world: World) -> None:
    kept: list[AsyncSession] = []
    forgotten: list[asyncio.Task[Any]] = []
    over = asyncio.Event()

    async def keeps(session: AsyncSession) -> None:
        async def later() -> None:
            await over.wait()
            await session.execute(sa.insert(Total).values(id="late", n=1))

        kept.append(session)
        forgotten.append(asyncio.create_task(later()))

    await world.effects.commit(handling(keeps, booking(id="k")))
    over.set()
    with pytest.raises(ProjectionError, match="its handler has ended"):
        await forgotten[0]
    session = kept[0]
    uses: list[Callable[[], Awaitable[Any]]] = [
        lambda: session.execute(sa.select(1)),
        lambda: session.get(Total, "all"),
        lambda: session.flush(),
        lambda: session.begin_nested().__aenter__(),
        lambda: session.connection(),
    ]
    for use in uses:
        with pytest.raises(ProjectionError, match="its handler has ended"):
            await use()
    assert await world.totals() == {}


async def test_a_statement_that_is_under_way_at_the_end_is_told(world: World) -> None:
    tasks: list[asyncio.Task[Any]] = []
    sleep = "pg_sleep(0.5)" if world.engine.dialect.name == "postgresql" else "sleep(0.5)"

    async def leaves(session: AsyncSession) -> None:
        tasks.append(asyncio.create_task(session.execute(sa.text(f"SELECT {sleep}"))))
        await asyncio.sleep(0.1)

    with pytest.raises(ProjectionError, match="under way"):
        await world.effects.commit(handling(leaves, booking(id="k")))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await world.log.find("k") == []
    assert await world.effects.commit(handling(counted, booking(id="k")))
    assert await world.idle()


async def test_a_cancellation_leaves_nothing_open(world: World, sql_url: str) -> None:
    reached = asyncio.Event()
    sleep = "pg_sleep(30)" if world.engine.dialect.name == "postgresql" else "sleep(30)"

    async def waits(session: AsyncSession) -> None:
        await counted(session)
        await session.flush()
        reached.set()
        await asyncio.Event().wait()

    async def asks(session: AsyncSession) -> None:
        await counted(session)
        await session.flush()
        asyncio.get_running_loop().call_later(0.2, reached.set)
        await session.execute(sa.text(f"SELECT {sleep}"))

    for write in (waits, asks):
        reached.clear()
        task = asyncio.ensure_future(world.effects.commit(handling(write, booking(id="k"))))
        await asyncio.wait_for(reached.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert await world.idle()
        own = booking(f"ledger-{write.__name__}")
        assert await world.effects.commit(handling(counted, own))
    assert await world.totals() == {"all": 2}


async def test_a_commit_that_cannot_be_stored_leaves_no_rows(world: World) -> None:
    large = Recorded("Booked", 1, {"text": "x" * 17_000_000})
    with pytest.raises(InvalidMessage, match="cannot be stored"):
        await world.effects.commit(handling(counted, booking(id="k")._replace(events=(large,))))
    assert await world.totals() == {}


# --- what servers do -----------------------------------------------------------------------------


async def test_of_two_that_deadlock_both_are_carried_out(world: World) -> None:
    async with world.engine.connect() as connection:
        for id in "ab":
            await connection.execute(sa.insert(Total).values(id=id, n=0))
    both = asyncio.Barrier(2)
    runs: list[str] = []

    def write(first: str, second: str) -> Write:
        met = False

        async def add(session: AsyncSession) -> None:
            nonlocal met
            runs.append(first)
            for id in (first, second):
                await session.execute(sa.update(Total).where(Total.id == id).values(n=Total.n + 1))
                if not met:
                    met = True
                    await both.wait()

        return add

    await asyncio.gather(
        world.effects.commit(handling(write("a", "b"), booking("ledger-a", id="k1"))),
        world.effects.commit(handling(write("b", "a"), booking("ledger-b", id="k2"))),
    )
    assert await world.totals() == {"a": 2, "b": 2}
    assert len(runs) == 3


async def test_a_deadlock_that_a_handler_swallows_runs_it_again(world: World) -> None:
    async with world.engine.connect() as connection:
        for id in "ab":
            await connection.execute(sa.insert(Total).values(id=id, n=0))
    both = asyncio.Barrier(2)

    def write(first: str, second: str) -> Write:
        met = False

        async def add(session: AsyncSession) -> None:
            nonlocal met
            with suppress(DBAPIError):
                for id in (first, second):
                    where = sa.update(Total).where(Total.id == id)
                    await session.execute(where.values(n=Total.n + 1))
                    if not met:
                        met = True
                        await both.wait()

        return add

    await asyncio.gather(
        world.effects.commit(handling(write("a", "b"), booking("ledger-a", id="k1"))),
        world.effects.commit(handling(write("b", "a"), booking("ledger-b", id="k2"))),
    )
    assert await world.totals() == {"a": 2, "b": 2}


async def kill(session: AsyncSession, sql_url: str) -> None:
    if statements.is_postgresql(sql_url):
        own = (await session.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
        killing = f"SELECT pg_terminate_backend({own})"
    else:
        own = (await session.execute(sa.text("SELECT connection_id()"))).scalar_one()
        killing = f"KILL {own}"
    await asyncio.to_thread(statements.run, sql_url, killing)


async def test_a_handler_whose_backend_is_killed_runs_again(world: World, sql_url: str) -> None:
    for swallows in (False, True):
        runs = 0

        async def write(session: AsyncSession, swallows: bool = swallows) -> None:
            nonlocal runs
            runs += 1
            await counted(session)
            await session.flush()
            if runs == 1:
                await kill(session, sql_url)
                if swallows:
                    with suppress(DBAPIError):
                        await session.execute(sa.select(1))

        await world.effects.commit(handling(write, booking(f"ledger-{swallows}")))
        assert runs == 2
    assert await world.totals() == {"all": 2}
    assert await world.idle()


async def test_a_commit_that_is_cut_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before the server has it, and after."""
    real = attempts._commit
    for has_it in (True, False):
        cuts = 0

        async def cut(transaction: Any, has_it: bool = has_it) -> None:
            nonlocal cuts
            cuts += 1
            if cuts == 1:
                if has_it:
                    await transaction.commit()
                raise attempts._InDoubt(ConnectionResetError("cut"))
            await real(transaction)

        with monkeypatch.context() as patch:
            patch.setattr(attempts, "_commit", cut)
            own = booking(f"ledger-{has_it}")
            assert list(await world.effects.commit(handling(counted, own))) == [own]
            assert cuts == (1 if has_it else 2)
            cuts = 0
            result = await world.effects.once(f"e{has_it}", handling(counted))
            assert (result is None) == has_it
    assert await world.totals() == {"all": 4}


async def test_handlers_at_a_time_are_fewer_than_connections(world: World) -> None:
    """Each reads the log besides, by another connection."""

    async def reads(session: AsyncSession) -> None:
        await session.execute(sa.select(1))
        await asyncio.sleep(0.05)
        await world.log.read("ledger-a")

    await asyncio.gather(*[world.effects.once(f"e{n}", handling(reads)) for n in range(60)])
    assert await world.idle()

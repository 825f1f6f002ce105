"""A handler with an AsyncSession while its server breaks: rows and events are told of truly."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from bus.common import clock
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.sql import SqlEffects, SqlEventLog, connect, log
from bus.testing.contracts.effects_contract import booking
from tests.contract.test_sql_effects import Base, Total, World, Write, counted, handling
from tests.loops import Loop, each_loop, in_loop
from tests.waiting import patience, until
from tools.faults.proxy import Proxy
from tools.faults.sql import end_backend
from tools.services import statements
from tools.services.sql_node import SQLNode


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[World]:
    engine = connect(url)
    event_log = SqlEventLog(engine)
    await event_log.open()
    async with engine.connect() as connection:
        await connection.run_sync(Base.metadata.create_all)
    effects = SqlEffects(engine, event_log, handled_for=3600)
    await effects.open()
    try:
        yield World(engine, event_log, effects)
    finally:
        await effects.close()
        await event_log.close()
        await engine.dispose()


Fault = Callable[[], None]


def nothing() -> None: ...


def once(fault: Fault) -> Fault:
    """Happens the first time only."""
    left = [fault]
    return lambda: left.pop()() if left else None


def writes(id: str, fault: Fault = nothing) -> Write:
    """A handler that writes a row; then there is a fault."""

    async def write(session: AsyncSession) -> None:
        session.add(Total(id=id, n=1))
        await session.flush()
        fault()

    return write


async def told(world: World, id: str, fault: Fault = nothing) -> str:
    """Runs a command, and returns what was said of it."""
    own = booking(f"ledger-{id}", id=id)
    try:
        stored = await world.effects.commit(handling(writes(id, fault), own))
    except (OutcomeUnknown, StoreUnavailable) as error:
        return type(error).__name__
    assert [commit.id for commit in stored] == [id]
    return "stored"


async def held(world: World, id: str) -> bool:
    """Whether it is stored; rows and events are together, or are not there."""
    commits = await world.log.find(id)
    assert (id in await world.totals()) is bool(commits)
    return bool(commits)


@pytest.mark.parametrize("lost", ["request", "answer", "answer, silently"])
async def test_a_connection_that_is_cut_in_commit(sql_url: str, lost: str) -> None:
    async with Proxy(sql_url) as proxy, opened(proxy.url) as world, opened(sql_url) as other:
        assert await told(world, "before") == "stored"
        silently = "silently" in lost

        def cut() -> None:
            if lost == "request":
                proxy.lose_requests(b"COMMIT", 1)
            else:
                proxy.lose_answers(b"COMMIT", 1, silently=silently)

        assert await told(world, "a", once(cut)) == "stored"
        assert await held(other, "a")
        own = booking("ledger-e", id="e")
        await world.effects.once("e", handling(writes("e", once(cut)), own))
        assert proxy.answers_lost == (0 if lost == "request" else 2)
        assert await held(other, "e")
        assert await other.effects.marks("", 9) == ["e"]


@each_loop
def test_a_connection_that_ended_while_nobody_used_it(sql_url: str, loop: Loop) -> None:
    async def cut() -> None:
        async with Proxy(sql_url) as proxy, opened(proxy.url) as world:
            for n in range(3):
                assert await told(world, f"a{n}") == "stored"
                assert proxy.cut()
                await until(lambda: not proxy.cut() and not proxy.connections, "it is not cut")
            assert await told(world, "b") == "stored"
            assert await held(world, "b")

    in_loop(loop, cut())


async def test_what_cannot_be_asked_after_a_cut_is_told_as_unknown(sql_url: str) -> None:
    async with Proxy(sql_url) as proxy, opened(proxy.url) as world, opened(sql_url) as other:
        assert await told(world, "before") == "stored"
        fault = once(lambda: proxy.lose_answers(b"COMMIT", 1))
        running = asyncio.create_task(told(world, "a", fault))
        await until(lambda: proxy.answers_lost == 1, "the answer was not lost")
        await proxy.shut()
        assert await asyncio.wait_for(running, 60) in ("OutcomeUnknown", "stored")
        assert await held(other, "a")
        await proxy.open()
        assert await held(world, "a")


async def test_backends_that_are_ended_while_handlers_work(sql_url: str) -> None:
    async with opened(sql_url) as world:
        words: dict[str, str] = {}
        stop = False

        async def work(worker: int) -> None:
            number = 0
            while not stop:
                number += 1
                id = f"{worker}-{number}"
                words[id] = await told(world, id)

        working = [asyncio.create_task(work(n)) for n in range(20)]
        for _ in range(10):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(_end_some, sql_url)
        stop = True
        async with asyncio.timeout(90 * patience()):
            await asyncio.gather(*working)
        await _check(world, words)


def _end_some(url: str) -> None:
    name = statements.run(url, "SELECT current_database()" if "postgresql" in url
                          else "SELECT DATABASE()")[0][0]  # fmt: skip
    asked = (
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid() "
        f"AND application_name = 'doubledecker' LIMIT 5"
        if "postgresql" in url
        else f"SELECT id FROM information_schema.processlist WHERE db = '{name}' "
        f"AND id <> connection_id() LIMIT 5"
    )
    for (backend,) in statements.run(url, asked):
        try:
            end_backend(url, backend)
        except Exception:  # it ended by itself
            continue


async def _check(world: World, words: dict[str, str]) -> None:
    """What was said is true."""
    found = await world.log.held(list(words))
    assert set(await world.totals()) == found
    for id, word in words.items():
        if word != "OutcomeUnknown":
            assert (id in found) is (word == "stored"), (id, word)
    assert Counter(words.values())["stored"] > 20


async def test_a_server_that_crashes_while_handlers_work(sql_node: SQLNode) -> None:
    async with opened(sql_node.create_database("jobs")) as world:
        words: dict[str, str] = {}
        stop = False

        async def work(worker: int) -> None:
            while not stop:
                id = f"{worker}-{clock.new_id()}"
                words[id] = await told(world, id)
                if words[id] != "stored":
                    await asyncio.sleep(0.1)

        working = [asyncio.create_task(work(n)) for n in range(20)]
        await asyncio.sleep(1)
        await asyncio.to_thread(sql_node.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(sql_node.start)
        before = len(words)
        await until(lambda: len(words) > before + 200, "commands are not carried out again")
        stop = True
        async with asyncio.timeout(90 * patience()):
            await asyncio.gather(*working)
        await _check(world, words)


async def test_a_handler_that_waits_too_long_within_its_transaction(sql_url: str) -> None:
    """The server ends it meanwhile: nothing is stored, and the handler's next try may succeed."""
    if "postgresql" not in sql_url:
        pytest.skip("MariaDB lets an idle transaction stand")
    async with opened(sql_url) as world:
        runs = 0

        async def write(session: AsyncSession) -> None:
            nonlocal runs
            runs += 1
            session.add(Total(id="a", n=1))
            await session.flush()
            if runs == 1:
                await session.execute(sa.text("SET idle_in_transaction_session_timeout = '200ms'"))
                await asyncio.sleep(1)

        await world.effects.commit(handling(write, booking(id="k")))
        assert runs == 2
        assert await world.totals() == {"a": 1}


async def stand_still(connection: AsyncConnection) -> None:
    """Leaves the server amid a statement: it has told what that takes, and waits for it."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    await driver.prepare("SELECT $1::int")


async def test_a_handler_that_stands_still_within_a_statement_makes_way_for_another(
    postgresql_url: str,
) -> None:
    """What stands still there is not idle for the server: who waits for its locks has it ended."""
    async with opened(postgresql_url) as late, opened(postgresql_url) as world:
        world.effects._transactions._stalled = 0.5
        stands, goes_on = asyncio.Event(), asyncio.Event()

        async def write(session: AsyncSession) -> None:
            await counted(session)
            await session.flush()
            if not stands.is_set():
                await stand_still(await session.connection())
                stands.set()
                await goes_on.wait()

        own = booking("ledger-late", id="late")
        first = asyncio.create_task(late.effects.commit(handling(write, own)))
        await stands.wait()
        async with asyncio.timeout(15 * patience()):
            await world.effects.commit(handling(counted, booking(id="next")))
        assert await world.totals() == {"all": 1}
        goes_on.set()
        assert [commit.id for commit in await first] == ["late"]
        assert await world.totals() == {"all": 2}


async def test_a_commit_whose_process_stands_still_keeps_readers_waiting_for_a_minute(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "STALLED", 0.5)
    async with opened(postgresql_url) as late, opened(postgresql_url) as world:
        world.log._database._stalled = 0.5
        own = booking("ledger-late", id="late")
        connection = await late.effects._transactions.connected()
        await late.log.append_within(connection, [own])
        await stand_still(connection)
        assert int(own.time.timestamp()) == (await world.log.settled()).timestamp()

        async def settled() -> bool:
            return await world.log.settled() > own.time

        await until(settled, "the commit that stands still is ended")
        assert not await world.log.find("late")
        await connection.invalidate()
        await connection.close()

"""One command changes aggregates by their state and rows of the service's own: all of it is stored,
or nothing, on each SQL server."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from bus import Aggregates, Bus, Settings
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import log_at
from bus.stores.sql.schema import state_fields, states
from tests.service.desks import Book, Clear, Failed, Probe, bookings, build, make_tables


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


async def rows(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        found = await connection.execute(sa.select(bookings).order_by(*bookings.primary_key))
        return [tuple(row) for row in found]


async def booked(bus: Bus, desk: str) -> int:
    """How often a desk was booked by its state, which is what its events make."""
    assert (await Aggregates(bus).check("Desk")).is_right
    state = await bus.runtime.event_log.state(f"desk-{desk}")
    return 0 if state is None else int(state.state["bookings"])


async def at_desks_of(bus: Bus, who: str) -> list[str]:
    found = await bus.runtime.event_log.states("desk", {"who": who}, 100)
    return [state.stream for state in found]


async def test_rows_events_and_states_are_one(bus: Bus, engine: AsyncEngine) -> None:
    for desk in ("a", "b"):
        assert (await bus.execute(Book(desk_id=desk, who="ada"), id=f"k-{desk}")).result == 1
        assert (await bus.execute(Book(desk_id=desk, who="ada"), id=f"k-{desk}")).result == 1
    await bus.execute(Book(desk_id="c", who="bob"))
    assert (await bus.execute(Clear(who="ada"))).result == ["a", "b"]
    assert (await bus.execute(Clear(who="ada"))).result == []
    assert await rows(engine) == [("a", 1, "nobody"), ("b", 1, "nobody"), ("c", 1, "bob")]
    assert await at_desks_of(bus, "bob") == ["desk-c"]
    assert [await booked(bus, desk) for desk in "abc"] == [1, 1, 1]


async def test_what_fails_leaves_neither_rows_nor_states(bus: Bus, engine: AsyncEngine) -> None:
    with pytest.raises(Failed):
        await bus.execute(Book(desk_id="a", who="ada", fails=True))
    assert await booked(bus, "a") == 0
    await bus.execute(Book(desk_id="a", who="ada"))
    async with engine.begin() as connection:  # the row that the next command writes is taken
        await connection.execute(bookings.insert().values(desk="a", number=2, who="bob"))
    with pytest.raises(IntegrityError):
        await bus.execute(Book(desk_id="a", who="bob"))
    assert await rows(engine) == [("a", 1, "ada"), ("a", 2, "bob")]
    assert await booked(bus, "a") == 1
    assert await at_desks_of(bus, "bob") == []


async def test_a_conflict_runs_the_handler_again_and_its_rows_are_written_once(
    bus: Bus, settings: Settings, engine: AsyncEngine
) -> None:
    await bus.execute(Book(desk_id="a", who="ada"))
    async with build(settings) as other:
        at_once = [(bus, other)[n % 2].execute(Book(desk_id="a", who=str(n))) for n in range(10)]
        got = await asyncio.gather(*at_once)
        assert sorted(receipt.result for receipt in got) == list(range(2, 12))
    assert [(desk, number) for desk, number, _ in await rows(engine)] == [
        ("a", number) for number in range(1, 12)
    ]
    assert await booked(bus, "a") == 11
    (*_, (_, _, last)) = await rows(engine)
    assert await at_desks_of(bus, last) == ["desk-a"]
    assert await at_desks_of(bus, "ada") == []


async def test_who_loses_the_state_loses_the_rows_of_that_run(
    bus: Bus, settings: Settings, probe: Probe, engine: AsyncEngine
) -> None:
    await bus.execute(Book(desk_id="a", who="ada"))
    async with build(settings) as other:

        async def meanwhile(session: AsyncSession) -> None:
            if probe.runs == 2:
                assert (await other.execute(Clear(who="ada"))).result == ["a"]

        probe.meanwhile = meanwhile
        assert (await bus.execute(Book(desk_id="a", who="bob"))).result == 2
    assert probe.runs == 3
    assert await rows(engine) == [("a", 1, "nobody"), ("a", 2, "bob")]
    assert await booked(bus, "a") == 2


KILLED = """
import asyncio, os, sys
from bus import Settings
from bus.stores.sql.sessions import attempts
from bus.stores.sql.states import SqlStates
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import log_at
from bus.stores.sql.schema import state_fields, states
from tests.service.desks import Book, build

place, name = {
    "states": (SqlStates, "write"), "the commit": (attempts, "_commit")
}[sys.argv[3]]
call, ready = getattr(place, name), False

async def lethal(*given):
    if ready and sys.argv[2] == "before":
        os._exit(9)
    result = await call(*given)
    if ready:
        os._exit(9)
    return result

setattr(place, name, lethal)

async def main():
    global ready
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=sys.argv[1])
    async with build(settings) as bus:
        await bus.execute(Book(desk_id="a", who="ada"), id="k1")
        ready = True
        await bus.execute(Book(desk_id="a", who="bob"), id="k2")

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["states", "the commit"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_that_is_killed_between_leaves_all_or_nothing(
    settings: Settings, engine: AsyncEngine, sql_url: str, when: str, what: str
) -> None:
    root = str(Path(__file__).parents[2])
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, sql_url, when, what, env={**os.environ, "PYTHONPATH": root}
    )
    assert await program.wait() == 9
    stored = (when, what) == ("after", "the commit")
    async with build(settings) as bus:
        assert len(await rows(engine)) == await booked(bus, "a") == (2 if stored else 1)
        assert await at_desks_of(bus, "bob") == (["desk-a"] if stored else [])
        assert (await bus.execute(Book(desk_id="a", who="bob"), id="k2")).result == 2
        assert await rows(engine) == [("a", 1, "ada"), ("a", 2, "bob")]
        assert await booked(bus, "a") == 2
        assert await at_desks_of(bus, "bob") == ["desk-a"]


async def test_states_are_indexed_at_the_place_to_which_a_log_is_moved(
    mariadb_url: str, postgresql_url: str
) -> None:
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=mariadb_url)
    engine = create_async_engine(mariadb_url)
    await make_tables(engine)
    await engine.dispose()
    async with build(settings) as bus:
        for desk in "abc":
            await bus.execute(Book(desk_id=desk, who="ada"))
        async with (
            log_at(bus, mariadb_url, makes=False) as old,
            log_at(bus, postgresql_url, makes=True) as new,
        ):
            assert (await LogCopy("desks", old, new).finish()).state == "moved"
    engine = create_async_engine(postgresql_url)
    async with engine.connect() as connection:
        own = states.c.found_by
        found = await connection.execute(sa.select(own).where(states.c.category == "desk"))
        assert 0 not in (digests := set(found.scalars()))
        assert len(digests) == 1
        assert len((await connection.execute(sa.select(state_fields))).all()) == 3
    await engine.dispose()

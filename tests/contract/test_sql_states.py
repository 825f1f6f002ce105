"""States in SQL are found by an index, whatever release wrote them; tables of before get one."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from bus.errors import ConfigurationError
from bus.stores.event_log import Snapshot
from bus.stores.sql import SqlEventLog, migrating
from bus.stores.sql.schema import VERSION, dialect_of, state_fields, statements
from bus.stores.sql.schema import states as bus_states
from bus.stores.sql.states import states as module
from bus.stores.sql.states.places import Indexes
from bus.stores.sql.states.writing import index
from bus.testing.contracts.event_log_contract import commit
from bus.testing.contracts.states_contract import SAME, state, with_state
from tests.contract.sql_logs import kind_of, make_as_released, opened, other

MANY = 4000
RARE = 20

OLD_UPDATE = (
    "UPDATE bus_states SET stream=:stream, category='job', version=:version, shape='1', "
    "state=:state WHERE stream=:stream"
)
OLD_INSERT = (
    "INSERT INTO bus_states (stream, category, version, shape, state) "
    "VALUES (:stream, 'job', :version, '1', :state)"
)
"""What a process of the release before says, which knows no places."""


@pytest.fixture
async def log(sql_url: str) -> AsyncIterator[SqlEventLog]:
    async with opened(sql_url) as log:
        yield log


async def found(log: SqlEventLog, shape: str = "", **fields: Any) -> list[str]:
    return [one.stream for one in await log.states("job", fields, 10_000, shape=shape)]


async def say(url: str, statement: str, *rows: dict[str, Any]) -> None:
    """Runs a statement as somebody else does."""
    async with other(url) as connection:
        if connection.dialect.name == "postgresql":
            statement = statement.replace("=:state", "=CAST(:state AS json)")
            statement = statement.replace("'1', :state", "'1', CAST(:state AS json)")
        await connection.execute(sa.text(statement), list(rows) or None)
        await connection.commit()


async def write_as_before(url: str, statement: str, *states: Snapshot) -> None:
    rows = [{**one._asdict(), "state": json.dumps(one.state)} for one in states]
    await say(
        url, statement, *({k: row[k] for k in ("stream", "version", "state")} for row in rows)
    )


def job(n: int) -> Snapshot:
    status = "rare" if n % (MANY // RARE) == 0 else "usual"
    return state(f"job-{n:05}", 1, status=status, city="Ulm" if n % 2 else "Bonn")


# --- what is read --------------------------------------------------------------------------------


@contextmanager
def asked_of(log: SqlEventLog) -> Iterator[list[tuple[str, Any]]]:
    """The statements that a log sends meanwhile, with their values."""
    said: list[tuple[str, Any]] = []

    def hear(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.append((statement, values))

    engine = log._database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", hear)
    yield said
    event.remove(engine, "before_cursor_execute", hear)


async def rows_read(url: str, statement: str, values: Any) -> int:
    """How many rows of tables and indexes the server reads for a statement."""
    async with other(url) as connection:
        if connection.dialect.name == "postgresql":
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            plan = (await connection.exec_driver_sql(explained, values)).scalar_one()
            return sum(map(_scanned, (plan if isinstance(plan, list) else json.loads(plan))))
        await connection.exec_driver_sql("FLUSH STATUS")
        (await connection.exec_driver_sql(statement, values)).all()
        status: Any = await connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
        return sum(int(row[1]) for row in status)


def _scanned(plan: dict[str, Any]) -> int:
    node = plan.get("Plan", plan)
    own = 0
    if "Relation Name" in node or "Index Name" in node:
        removed = node.get("Rows Removed by Filter", 0) + node.get(
            "Rows Removed by Index Recheck", 0
        )
        own = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return int(own) + sum(map(_scanned, node.get("Plans", ())))


async def analyze(url: str) -> None:
    """Does what PostgreSQL does by itself within a minute."""
    if url.startswith("postgresql"):
        await say(url, "ANALYZE bus_states, bus_state_fields")


async def test_what_is_found_costs_as_many_rows_as_it_has_states(
    log: SqlEventLog, sql_url: str
) -> None:
    await write_as_before(sql_url, OLD_INSERT, *map(job, range(MANY)))
    await analyze(sql_url)
    with asked_of(log) as before:
        assert len(await found(log, status="rare")) == RARE
    assert len(before) > MANY / module.PAGE
    await log.prepare_states("job", ["status", "city"])
    for fields in ({"status": "rare"}, {"status": "rare", "city": "Bonn"}, {"status": "none"}):
        first = await found(log, "1", **fields)
        with asked_of(log) as asked:
            assert await found(log, "1", **fields) == first
        assert len(first) in (RARE, 0)
        ((statement, values),) = asked
        assert await rows_read(sql_url, statement, values) < 15 * RARE


async def test_a_page_of_what_is_not_indexed_costs_no_more(log: SqlEventLog, sql_url: str) -> None:
    await write_as_before(sql_url, OLD_INSERT, *map(job, range(MANY)))
    await analyze(sql_url)
    await log.prepare_states("job", ["status"])
    late = [state(f"job-late{n}", 1, status="rare") for n in range(3)]
    await write_as_before(sql_url, OLD_INSERT, *late)
    await write_as_before(sql_url, OLD_UPDATE, state("job-00001", 2, status="rare"))
    await found(log, status="rare")
    with asked_of(log) as asked:
        assert len(await found(log, status="rare")) == RARE + 4
    ((statement, values),) = asked
    assert await rows_read(sql_url, statement, values) < 20 * RARE


async def test_nothing_is_written_to_the_index_where_no_value_changes(log: SqlEventLog) -> None:
    await log.prepare_states("job", ["status"])
    await log.append([with_state(1, status="open", count=1)])
    with asked_of(log) as asked:
        await log.append([with_state(2, status="open", count=2)])
    assert not [one for one, _ in asked if "bus_state_fields" in one]
    with asked_of(log) as asked:
        await log.append([with_state(3, status="closed", count=2)])
    assert len([one for one, _ in asked if "bus_state_fields" in one]) == 2


# --- releases side by side -----------------------------------------------------------------------


async def test_what_a_release_without_places_writes_is_found(
    log: SqlEventLog, sql_url: str
) -> None:
    await log.prepare_states("job", ["status"])
    await log.append([with_state(1, status="open")])
    await write_as_before(sql_url, OLD_UPDATE, state("job-1", 2, status="closed"))
    await write_as_before(sql_url, OLD_INSERT, state("job-2", 1, status="closed"))
    assert await found(log, status="closed") == ["job-1", "job-2"]
    assert await found(log, status="open") == []
    await log.append([commit("b", "job-1", 2), commit("c", "job-2")])
    await log.append([with_state(3, status="open")])
    assert await found(log, status="open") == ["job-1"]
    await log.prepare_states("job", ["status"])
    assert await found(log, status="closed") == ["job-2"]
    await say(sql_url, "DELETE FROM bus_states")
    assert await log._database.rows(sa.select(state_fields)) == []


async def test_releases_that_declare_others_find_what_each_writes(
    log: SqlEventLog, sql_url: str
) -> None:
    await log.prepare_states("job", ["status"])
    async with opened(sql_url) as newer:
        await newer.prepare_states("job", ["status", "city"])
        for n, own in enumerate((log, newer, log, newer), 1):
            await own.append([with_state(1, f"job-{n}", status="open", city="Ulm")])
            streams = [f"job-{one}" for one in range(1, n + 1)]
            for release in (log, newer):
                assert await found(release, status="open") == streams
                assert await found(release, "1", status="open") == streams
                assert await found(release, "2", status="none") == streams
                assert await found(release, city="Ulm", status="open") == streams
        await newer.prepare_states("job", ["city", "status"])
        await log.prepare_states("job", ["status"])
        assert await indexed_by(newer) == [BOTH]


BY_STATUS, BOTH = (
    Indexes("1", frozenset(fields)).digest for fields in (["status"], ["status", "city"])
)


async def indexed_by(log: SqlEventLog) -> list[int]:
    rows = await log._database.rows(sa.select(bus_states.c.found_by).distinct())
    return sorted(row.found_by for row in rows)


async def test_none_slips_through_while_states_are_indexed_anew(
    log: SqlEventLog, sql_url: str
) -> None:
    kept = [state(f"job-{n}", 1, status="open", city="Ulm", n=n) for n in range(10)]
    for declared in (["status"], ["city"], ["city", "status"]):
        await log.prepare_states("job", declared)
    await asyncio.gather(*map(log.save_state, kept))
    ends = asyncio.Event()

    async def write(declared: list[str]) -> None:
        async with opened(sql_url) as own:
            await own.prepare_states("job", declared)
            while not ends.is_set():
                for one in kept:
                    await own.save_state(one)

    writers = [
        asyncio.ensure_future(write(declared)) for declared in (["status"], ["city"], ["city", "n"])
    ]
    try:
        for _ in range(150):
            assert len(await found(log, city="Ulm")) == 10
            assert len(await found(log, city="Ulm", status="open")) == 10
    finally:
        ends.set()
        await asyncio.gather(*writers)


async def test_several_processes_index_states_while_they_change(
    log: SqlEventLog, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_A_TIME", 7)
    kept = [state(f"job-{n:02}", 1, status="open") for n in range(60)]
    await write_as_before(sql_url, OLD_INSERT, *kept)
    async with opened(sql_url) as second, opened(sql_url) as third:
        changes = [third.save_state(state(one.stream, 2, status="closed")) for one in kept[::3]]
        await asyncio.gather(
            *(own.prepare_states("job", ["status"]) for own in (log, second)), *changes
        )
        await log.prepare_states("job", ["status"])
    assert await found(log, status="closed") == [one.stream for one in kept[::3]]
    assert await indexed_by(log) == [BY_STATUS]
    rows = await log._database.rows(sa.select(state_fields.c.stream))
    assert sorted(row.stream for row in rows) == [one.stream for one in kept]


async def test_indexing_goes_on_where_it_was(
    log: SqlEventLog, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_A_TIME", 10)
    await write_as_before(sql_url, OLD_INSERT, *(state(f"job-{n}", 1, status=n) for n in range(30)))
    batches = list[int]()

    async def fails(connection: Any, streams: list[str], **rest: Any) -> None:
        batches.append(len(streams))
        if len(batches) == 3:
            raise Failed
        await index(connection, streams, **rest)

    monkeypatch.setattr(module, "index", fails)
    with pytest.raises(Failed):
        await log.prepare_states("job", ["status"])
    assert await indexed_by(log) == [0, BY_STATUS]
    assert [await found(log, status=n) for n in range(30)] == [[f"job-{n}"] for n in range(30)]
    await log.prepare_states("job", ["status"])
    assert batches == [10, 10, 10, 10]
    assert await indexed_by(log) == [BY_STATUS]


class Failed(Exception):
    pass


async def test_a_state_that_has_no_places_is_looked_through(log: SqlEventLog) -> None:
    await log.prepare_states("job", ["status"])
    await log.append([with_state(1, status=[f"tag {n}" for n in range(500)])])
    assert await indexed_by(log) == [0]
    await log.prepare_states("job", ["status"])
    assert await found(log, status="tag 3") == ["job-1"]


async def test_as_many_indexes_as_are_declared_are_used(log: SqlEventLog) -> None:
    names = [f"field_of_many_letters_{n}" for n in range(60)]
    await log.prepare_states("job", names)
    await log.append([with_state(1, **dict.fromkeys(names, "a"))])
    await log.append([with_state(1, "job-2", **dict.fromkeys(names, "b"))])
    assert 0 not in await indexed_by(log)
    assert [await found(log, **{name: "a"}) for name in names] == [["job-1"]] * 60
    assert await found(log, **dict.fromkeys(names, "b")) == ["job-2"]


# --- tables of before ----------------------------------------------------------------------------


async def test_tables_of_the_release_before_are_brought_to_this_one(sql_url: str) -> None:
    await make_as_released(sql_url)
    kept = [
        state(f"job-{name}", 1, status=values[0])
        for name, values in SAME.items()
        if values[0] != 2.0**63
    ]
    await write_as_before(sql_url, OLD_INSERT, *kept)
    with pytest.raises(ConfigurationError, match=r"have version 1.*`bus stores upgrade "):
        async with opened(sql_url):
            pass
    async with migrating(sql_url) as migrations:
        assert "bus stores upgrade" in (await migrations.problems())[0]
        await migrations.create()
        assert await migrations.version() == 1
        assert await migrations.upgrade() == 1
        assert (await migrations.version(), await migrations.problems()) == (VERSION, [])
        assert await migrations.upgrade() == VERSION
    async with opened(sql_url) as log:
        for prepares in (False, True):
            if prepares:
                await log.prepare_states("job", ["status"])
            for one in kept:
                assert await found(log, **one.state) == [one.stream]
        await log.append([with_state(1, "job-new", status="a")])
        assert await found(log, status="a") == ["job-letter", "job-new"]


async def test_brought_there_they_are_what_is_made_anew(sql_url: str) -> None:
    await make_as_released(sql_url)
    async with migrating(sql_url) as migrations:
        await migrations.upgrade()
    upgraded = await _things(sql_url)
    async with other(sql_url) as connection:
        drop = "DROP TABLE bus_state_fields, bus_states, bus_schema"
        await connection.execute(sa.text(drop))
        await connection.commit()
    async with opened(sql_url):
        pass
    assert await _things(sql_url) == upgraded


async def _things(url: str) -> Any:
    def look(connection: sa.Connection) -> Any:
        inspector = sa.inspect(connection)
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
                sorted(inspector.get_indexes(name), key=lambda index: str(index["name"])),
                inspector.get_pk_constraint(name)["constrained_columns"],
                inspector.get_foreign_keys(name),
            )
            for name in ("bus_states", "bus_state_fields", "bus_commits")
        }

    async with other(url) as connection:
        return await connection.run_sync(look)


def printed(connection: sa.Connection) -> list[str]:
    """What is printed for those who upgrade by hand."""
    return list(statements(dialect_of(kind_of(connection)), datetime.now(UTC), 1))


@pytest.mark.parametrize("done", [1, 4, 5, 6])
async def test_an_upgrade_that_was_interrupted_goes_on(sql_url: str, done: int) -> None:
    await make_as_released(sql_url)

    def begin(connection: sa.Connection) -> None:
        for statement in printed(connection)[:done]:
            connection.exec_driver_sql(statement)

    async with other(sql_url) as connection:
        await connection.run_sync(begin)
        await connection.commit()
    async with migrating(sql_url) as migrations:
        assert await migrations.version() == 1
        assert await migrations.upgrade() == 1
        assert await migrations.problems() == []


async def test_an_upgrade_by_the_printed_statements_is_one(sql_url: str) -> None:
    await make_as_released(sql_url)

    def upgrade(connection: sa.Connection) -> None:
        for statement in printed(connection):
            connection.exec_driver_sql(statement)

    async with other(sql_url) as connection:
        await connection.run_sync(upgrade)
        await connection.commit()
    async with migrating(sql_url) as migrations:
        assert (await migrations.version(), await migrations.problems()) == (VERSION, [])


async def test_what_is_missing_of_the_index_is_told(log: SqlEventLog, sql_url: str) -> None:
    await say(sql_url, "DROP TABLE bus_state_fields")
    assert await log._migrations.problems() == ["the table bus_state_fields is missing"]
    table = "" if "postgresql" in sql_url else " ON bus_states"
    await say(sql_url, f"DROP INDEX bus_states_found{table}")
    problems = await log._migrations.problems()
    assert "the index bus_states_found of the table bus_states is missing" in problems

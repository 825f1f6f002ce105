"""Projections in tables while servers and workers break: in the end rows are what the log says."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bus import Bus, Projections, Settings, Worker
from bus.delivery import projection_runner
from bus.stores.collections import Target
from bus.stores.sink import Increment
from bus.stores.sinks.placed import PlacedCollections
from bus.stores.sql import SqlTable
from bus.stores.sql.failures import is_of_store
from bus.stores.sql.tables.place import TablePlace
from bus.testing import shared_memory
from bus.testing.contracts.sink_contract import changes, counting
from tests import killing
from tests.contract.test_sql_tables import jobs
from tests.service.sheets import (
    Apply,
    CityTotal,
    Post,
    build,
    expected,
    jobs_of,
    read,
    totals_of,
)
from tests.waiting import in_parts, patience, problems, until
from tools.faults.proxy import Proxy
from tools.faults.sql import end_backend, locked, make_user, read_only
from tools.services import statements
from tools.services.sql_node import SQLNode

JOBS = [f"j{number}" for number in range(20)]
ROWS = Target("jobs", "jobs__v1", False, place="table")


class Load:
    """Applications for jobs without pause; it counts those that were stored."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.applied = 0
        self._stop = False

    async def run(self) -> None:
        while not self._stop:
            await in_parts(self.bus.execute(Apply(job_id=job)) for job in JOBS)
            self.applied += 1
            await asyncio.sleep(0.02)

    async def during(self, *faults: Callable[[], Awaitable[None]], url: str) -> None:
        """Runs while faults happen, one after the other; after each the rows come to be right."""
        running = asyncio.create_task(self.run())
        for fault in faults:
            await fault()
            before = self.applied
            await self._reaches(before, url)
        self._stop = True
        await running

    async def _reaches(self, count: int, url: str) -> None:
        async def reached() -> bool:
            return self.applied > count and await applications(url) >= count

        await until(reached, f"commands and rows go on after {count}")


async def rows_at(url: str) -> list[Any]:
    """The rows, as far as they can be read; read elsewhere, because the server may be frozen."""
    try:
        return await asyncio.to_thread(read, url, "jobs_table__v1")
    except statements.REFUSALS:
        return []


async def applications(url: str) -> int:
    """How many applications each job has at least."""
    return min((row[2] for row in await rows_at(url)), default=0)


async def are_there(url: str) -> bool:
    return len(await rows_at(url)) == len(JOBS)


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Load]:
    """A service in memory, its tables at the URL, with jobs."""
    bus = build(shared_memory(), "sheets", jobs_of(url), totals_of(url))
    async with bus, Worker(bus):
        await in_parts(bus.execute(Post(job_id=job, title=f"Job {job}")) for job in JOBS)
        yield Load(bus)


async def right(load: Load, url: str) -> None:
    """The rows are those of the log: nothing lost, nothing twice."""
    rows = expected(JOBS, load.applied)

    async def reached() -> bool:
        return await applications(url) == load.applied

    await until(reached, "all applications")
    assert await rows_at(url) == rows
    total = len(JOBS) * (load.applied + 1)

    async def whole() -> bool:
        return await load.bus.query(CityTotal(city="Bonn")) == total

    await until(whole, f"a total of {total}")

    async def is_well() -> bool:
        return not await problems(load.bus)

    await until(is_well, "no problem left")


async def test_rows_are_right_after_a_server_was_killed_frozen_read_only_and_crowded(
    sql_node: SQLNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection_runner, "FOLLOW_EVERY", 0.1)
    sql_node.create_database("sheets")
    url = make_user(sql_node, "sheets", "sheets")

    async def killed() -> None:
        await asyncio.to_thread(sql_node.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(sql_node.start)

    async def restarted() -> None:
        await asyncio.to_thread(sql_node.stop)
        await asyncio.to_thread(sql_node.start)

    async def frozen() -> None:
        await asyncio.to_thread(sql_node.pause)
        await asyncio.sleep(1)
        sql_node.resume()

    async def refusing() -> None:
        def refuse() -> None:
            with read_only(sql_node):
                time.sleep(2)

        await asyncio.to_thread(refuse)

    async def held_off() -> None:
        def hold() -> None:  # elsewhere: it waits for what this loop has under way
            with locked(url, "jobs_table__v1"):
                time.sleep(1)

        await asyncio.to_thread(hold)

    async def crowded() -> None:
        """No connection is free for the service's user."""
        is_postgresql = statements.is_postgresql(url)
        word = "CONNECTION LIMIT" if is_postgresql else "WITH MAX_USER_CONNECTIONS"
        sql_node.sql(f"ALTER USER sheets {word} {0 if is_postgresql else 1}")
        with statements.connected(sql_node.url_of("sheets")):
            listed = (
                "pid FROM pg_stat_activity WHERE usename"
                if is_postgresql
                else ("id FROM information_schema.processlist WHERE user")
            )
            for (backend,) in sql_node.sql(f"SELECT {listed} = 'sheets'"):
                with suppress(*statements.REFUSALS):
                    await asyncio.to_thread(end_backend, sql_node.url, backend)
            await asyncio.sleep(1)
        sql_node.sql(f"ALTER USER sheets {word} {-1 if is_postgresql else 0}")

    async with served(url) as load:
        await until(lambda: are_there(url), "rows before anything breaks")
        await load.during(killed, restarted, frozen, refusing, held_off, crowded, url=url)
        await right(load, url)


async def test_rows_are_right_after_connections_were_cut_and_answers_lost(sql_url: str) -> None:
    async with Proxy(sql_url) as proxy:

        async def cut() -> None:
            for _ in range(5):
                proxy.cut()
                await asyncio.sleep(0.1)

        def is_lost(count: int) -> bool:
            return proxy.answers_lost == count

        async def lost() -> None:
            """The answers to three COMMITs: nobody knows whether rows were written."""
            for number in range(1, 4):
                proxy.lose_answers(b"COMMIT", 1)
                proxy.cut()  # asyncpg names a statement once in a connection
                await until(partial(is_lost, number), "an answer was lost")

        async with served(proxy.url) as load:
            await until(lambda: are_there(sql_url), "rows at first")
            await load.during(cut, lost, url=sql_url)
            await right(load, sql_url)
            assert proxy.answers_lost == 3


async def test_a_worker_killed_while_it_writes_loses_and_repeats_nothing(
    amqp_url: str, sql_url: str, unique: str
) -> None:
    whens = ["before the rows", "after the rows", "after the batch"]
    async with asyncio.TaskGroup() as group:
        for number, when in enumerate(whens):
            group.create_task(killed_and_made_good(amqp_url, sql_url, f"{unique}{number}", when))


async def test_a_worker_killed_while_it_builds_a_table_is_followed_by_one_that_goes_on(
    amqp_url: str, sql_url: str, unique: str
) -> None:
    whens = ["before the loaded rows", "after the loaded rows", "after the load"]
    async with asyncio.TaskGroup() as group:
        for number, when in enumerate(whens):
            group.create_task(killed_and_built(amqp_url, sql_url, f"{unique}{number}", when))


async def killed_and_built(amqp_url: str, server: str, service: str, when: str) -> None:
    url = statements.create_database(server, service)
    settings = await killed_at(amqp_url, url, service, when)
    rows = expected([f"j{number}" for number in range(5)], 1)
    async with build(settings, service, jobs_of(url), totals_of(url)) as bus, Worker(bus):

        async def is_read() -> bool:
            statuses = await Projections(bus).status("jobs_table")
            return {row.collection: row.state for row in statuses}["jobs_table__v1r2"] == "read"

        await until(is_read, f"{when}: the new table is read")
        assert read(url, "jobs_table__v1r2") == rows
        await until(lambda: read(url, "jobs_table") == rows, f"{when}: the view is the new one")
    statements.drop_database(server, service)


async def killed_at(amqp_url: str, url: str, service: str, when: str) -> Settings:
    """Has a worker kill itself; returns the settings of the next one."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "BUS_MONGO_URL"},
        "BUS_AMQP_URL": amqp_url,
        "BUS_LOG_URL": url,
    }
    await killing.killed("killed_in_table", service, when, environment=environment)
    return Settings(amqp_url=amqp_url, mongo_url="", log_url=url)


async def killed_and_made_good(amqp_url: str, server: str, service: str, when: str) -> None:
    url = statements.create_database(server, service)
    settings = await killed_at(amqp_url, url, service, when)
    async with build(settings, service, jobs_of(url), totals_of(url)) as bus, Worker(bus):
        for number in range(5):
            await bus.execute(Post(job_id=f"j{number}", title=f"Job j{number}"), id=f"p{number}")
            await bus.execute(Apply(job_id=f"j{number}"), id=f"a{number}")
        rows = expected([f"j{number}" for number in range(5)], 1)
        await until(lambda: read(url, "jobs_table__v1") == rows, f"{when}: five jobs")

        async def whole() -> bool:
            return await bus.query(CityTotal(city="Bonn")) == 10

        await until(whole, f"{when}: totals")
    statements.drop_database(server, service)


async def test_a_process_that_freezes_within_a_batch_keeps_its_successor_waiting_for_seconds(
    sql_url: str,
) -> None:
    await takes_over(sql_url, lambda _: asyncio.sleep(0))


async def test_a_process_that_freezes_within_a_statement_keeps_its_successor_waiting_for_seconds(
    postgresql_url: str,
) -> None:
    """The server has told what the statement takes, and waits for it: this is not idle."""

    async def asks_what_it_takes(connection: AsyncConnection) -> None:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.prepare("UPDATE jobs__v1 SET count = $1")

    await takes_over(postgresql_url, asks_what_it_takes)


async def takes_over(
    url: str,
    stand_still: Callable[[AsyncConnection], Awaitable[object]],
) -> None:
    """Another writer does what one was about to, once the server has ended its transaction."""
    sink = SqlTable(jobs(), url=url)
    frozen, next_one = sink.place("service"), sink.place("service")
    assert isinstance(frozen, TablePlace)
    assert isinstance(next_one, TablePlace)
    await frozen.prepare(ROWS)
    assert await frozen.write(ROWS, changes(("a", Increment(count=1)), a=1), {"job-a": 0})
    writer = PlacedCollections(sink, next_one).writer(ROWS, "queue")
    held = frozen._database.transaction()
    connection = await held.__aenter__()
    try:
        await connection.exec_driver_sql("UPDATE jobs__v1 SET count = 9")
        await connection.exec_driver_sql("UPDATE bus_checkpoints SET version = 9")
        await stand_still(connection)
        async with asyncio.timeout(25 * patience()):
            await writer.transact(["job-a"], counting(2))
        assert await ended(connection.exec_driver_sql("COMMIT"))
        assert await next_one.versions(ROWS, ["job-a"]) == {"job-a": 2}
        assert [row["count"] for row in await next_one.page(ROWS, "", 9)] == [2]
    finally:
        await connection.invalidate()
        await connection.close()
        await frozen.close()
        await next_one.close()


async def ended(statement: Awaitable[Any]) -> bool:
    """Whether a statement finds that its connection has ended, in whatever words."""
    try:
        await statement
    except Exception as error:
        return is_of_store(error)
    return False

"""The rights that docs/read-stores.md gives on PostgreSQL and MariaDB: projections are kept in
tables with them, built anew and read by analysts, and with no more."""

import asyncio
import re
from pathlib import Path

import pytest

from bus import Bus, Projections, Worker
from bus.testing import shared_memory
from tests.service.sheets import Apply, CityTotal, Post, build, expected, jobs_of, read, totals_of
from tests.waiting import problems, until
from tools.services import statements
from tools.services.sql_node import SQLNode

PAGE = (Path(__file__).parents[2] / "docs" / "read-stores.md").read_text()


def rights() -> tuple[str, str]:
    """What the page says of PostgreSQL, and of the others: besides reading and writing rows."""
    found = re.search(
        r"reads and writes its tables, and makes and drops tables and views "
        r"\(`(CREATE)` on the schema in PostgreSQL; ((?:`[A-Z ]+`(?:, )?)+) in MariaDB",
        PAGE,
    )
    assert found
    return found[1], found[2].replace("`", "")


@pytest.fixture
def url(sql_node: SQLNode) -> str:
    """Of a user with these rights alone, in a database with another user, the analysts'."""
    administrator = sql_node.create_database("sheets")
    of_postgresql, of_others = rights()
    if statements.is_postgresql(administrator):
        password, grant = "PASSWORD 'password'", f"GRANT {of_postgresql} ON SCHEMA public TO maker"
    else:
        rows = "SELECT, INSERT, UPDATE, DELETE"
        password = "IDENTIFIED BY 'password'"
        grant = f"GRANT {rows}, {of_others} ON sheets.* TO maker"
    users = [f"CREATE USER {name} {password}" for name in ("maker", "analysts")]
    statements.run(administrator, *users, grant)
    return statements.of_user(administrator, "maker", "password")


async def test_tables_are_made_fed_and_built_anew_with_the_rights_of_the_page(
    url: str, sql_node: SQLNode
) -> None:
    analysts = statements.of_user(url, "analysts", "password")
    memory = shared_memory()
    async with build(memory, "sheets", jobs_of(url), totals_of(url)) as bus, Worker(bus):
        await bus.execute(Post(job_id="a", title="Job a"))
        await is_there(url, expected(["a"]))
        place = "" if statements.is_postgresql(url) else "sheets."
        if statements.is_postgresql(url):
            statements.run(url, "GRANT SELECT ON jobs_table TO analysts")
        else:  # whose service cannot hand on what it has
            sql_node.sql(f"GRANT SELECT ON {place}jobs_table TO analysts")
        await is_there(analysts, expected(["a"]))
        new = await Projections(bus).rebuild("jobs_table")
        await bus.execute(Apply(job_id="a"))
        await until(lambda: is_read(Projections(bus), new), "the new one is read")
        await is_there(analysts, expected(["a"], 1))
        await until(lambda: total_is(bus, 2), "the total")
        await Projections(bus).drop("jobs_table", "jobs_table__v1")
        assert not await problems(bus)
    for statement in ("SELECT * FROM totals", "DELETE FROM jobs_table", "CREATE TABLE b (id int)"):
        with pytest.raises(statements.REFUSALS):
            statements.run(analysts, statement)
    for statement in ("CREATE USER other", "CREATE DATABASE other"):
        with pytest.raises(statements.REFUSALS):
            statements.run(url, statement)


async def is_there(url: str, rows: list[object]) -> None:
    """Waits until somebody finds just these rows under the name that is shown."""

    async def are_found() -> bool:
        try:
            return await asyncio.to_thread(read, url) == rows
        except statements.REFUSALS:
            return False

    await until(are_found, f"{rows}")


async def is_read(projections: Projections, collection: str) -> bool:
    found = await projections.status("jobs_table")
    return [one.state for one in found if one.collection == collection] == ["read"]


async def total_is(bus: Bus, count: int) -> bool:

    return await bus.query(CityTotal(city="Bonn")) == count

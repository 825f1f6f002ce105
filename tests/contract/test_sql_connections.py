"""The connections of a process: what one user has done to one, the next does not meet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.stores.sql import connect
from bus.stores.sql.engine import Database
from tests.contract.sql_logs import other

ROWS = "SELECT count(*) FROM things"


@pytest.fixture
async def database(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """With one connection, which everybody gets in turn."""
    monkeypatch.setattr("bus.stores.sql.engine.KEPT", 1)
    monkeypatch.setattr("bus.stores.sql.engine.BESIDES", 0)
    database = Database(connect(sql_url))
    async with database.connection() as connection:
        await connection.exec_driver_sql("CREATE TABLE things (id INT PRIMARY KEY)")
    yield database
    await database.close()


async def add(connection: AsyncConnection, id: int) -> None:
    await connection.exec_driver_sql(f"INSERT INTO things VALUES ({id})")


async def committed(sql_url: str) -> int:
    """How many rows another client sees."""
    async with other(sql_url) as connection:
        return int((await connection.exec_driver_sql(ROWS)).scalar_one())


async def isolation(database: Database) -> str:
    """The isolation of the next user's statements, by the server's own word."""
    names = {"PostgreSQL": "SHOW transaction_isolation", "MySQL": "SELECT @@transaction_isolation"}
    asked = names.get(database.name, "SELECT @@tx_isolation")
    async with database.connection() as connection:
        found = (await connection.exec_driver_sql(asked)).scalar_one()
    return str(found).lower().replace("-", " ")


async def test_after_a_transaction_each_statement_is_one_of_its_own_again(
    database: Database, sql_url: str
) -> None:
    async with database.transaction() as connection:
        await add(connection, 1)
        assert await committed(sql_url) == 0
    assert await committed(sql_url) == 1
    async with database.connection() as connection:
        await add(connection, 2)
        assert await committed(sql_url) == 2
    assert await isolation(database) == "read committed"


@pytest.mark.parametrize("refused", [True, False])
async def test_what_a_transaction_that_failed_had_done_is_nobodys(
    database: Database, sql_url: str, refused: bool
) -> None:

    async def fails() -> None:
        async with database.transaction() as connection:
            await add(connection, 1)
            if refused:
                await add(connection, 1)
            raise RuntimeError

    with pytest.raises(SQLAlchemyError if refused else RuntimeError):
        await fails()
    async with database.connection() as connection:
        await add(connection, 2)
    assert await committed(sql_url) == 1
    assert await isolation(database) == "read committed"


@pytest.mark.parametrize("statement", [True, False])
async def test_what_a_cancelled_transaction_had_done_is_nobodys(
    database: Database, sql_url: str, statement: bool
) -> None:
    within = asyncio.Event()
    sleeps = "SELECT pg_sleep(60)" if database.name == "PostgreSQL" else "SELECT sleep(60)"

    async def held() -> None:
        async with database.transaction() as connection:
            await add(connection, 1)
            within.set()
            if statement:
                await connection.exec_driver_sql(sleeps)
            await asyncio.Event().wait()

    task = asyncio.create_task(held())
    await within.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.connection() as connection:
        await add(connection, 2)
    assert await committed(sql_url) == 1
    assert await isolation(database) == "read committed"


async def test_no_statement_that_fails_leaves_others_without_their_commits(
    database: Database, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy's own change of isolation is several statements on MariaDB and MySQL. One of them
    that failed, because somebody ended it by KILL QUERY, left what was changed before it."""
    dialect = database.engine.sync_engine.dialect

    def interrupted(connection: sa.Connection, level: str) -> None:
        if database.name != "PostgreSQL":
            connection.autocommit(False)  # type: ignore[attr-defined]
        raise pymysql.OperationalError(1317, "Query execution was interrupted")

    monkeypatch.setattr(dialect, "set_isolation_level", interrupted)
    with suppress(pymysql.OperationalError):
        async with database.transaction() as connection:
            await add(connection, 1)
    before = await committed(sql_url)
    async with database.connection() as connection:
        await add(connection, 2)
    assert await committed(sql_url) == before + 1

"""An event log in a SQL database, which is open for a block; and its tables as they were."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bus.stores.sql import SqlEventLog, connect

RELEASED = Path(__file__).parents[1] / "versions" / "sql"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlEventLog]:
    engine = connect(url)
    log = SqlEventLog(engine)
    try:
        await log.open()
        yield log
        await log.close()
    finally:
        await engine.dispose()


@asynccontextmanager
async def other(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection of somebody else's, with the driver's own settings."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def make_as_released(url: str) -> None:
    """Makes the tables as the release before has made them."""
    async with other(url) as connection:
        await connection.run_sync(_make_as_released)
        await connection.commit()


def kind_of(connection: sa.Connection) -> str:
    """The database's name, as `bus stores sql` takes it."""
    dialect: Any = connection.dialect
    return "mariadb" if getattr(dialect, "is_mariadb", False) else str(dialect.name)


def _released(connection: sa.Connection) -> list[str]:
    return (
        (RELEASED / f"{kind_of(connection)}-1.sql")
        .read_text()
        .strip()
        .removesuffix(";")
        .split(";\n")
    )


def _make_as_released(connection: sa.Connection) -> None:
    for statement in _released(connection):
        connection.exec_driver_sql(statement)

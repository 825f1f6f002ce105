"""An event log in a SQL database, which is open for a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bus.stores.sql import SqlEventLog, connect


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

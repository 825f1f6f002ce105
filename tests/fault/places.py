"""Places for a log, by a word: a URL, and for MongoDB a space and the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.operate.log_place import LogPlace
from bus.stores.mongo import MongoEffects, MongoEventLog, close
from bus.stores.mongo import connect as connect_mongo
from bus.stores.sql import SqlEffects, SqlEventLog, connect


@asynccontextmanager
async def opened(word: str) -> AsyncIterator[LogPlace]:
    """A log, which is closed after the block."""
    url, _, database = word.partition(" ")
    async with _in_mongodb(url, database) if database else _in_sql(url) as place:
        yield place


@asynccontextmanager
async def _in_mongodb(url: str, database: str) -> AsyncIterator[LogPlace]:
    client = connect_mongo(url, select_within=2.0)
    log = MongoEventLog(client, database)
    effects = MongoEffects(client, database, log, projected=[], handled_for=3600)
    await log.open()
    try:
        yield LogPlace(database, log, effects)
    finally:
        await log.close()
        await effects.close()
        await close(client)


@asynccontextmanager
async def _in_sql(url: str) -> AsyncIterator[LogPlace]:
    engine = connect(url)
    log = SqlEventLog(engine)
    effects = SqlEffects(engine, log, handled_for=3600)
    await log.open()
    try:
        yield LogPlace(url.rpartition("@")[2], log, effects)
    finally:
        await effects.close()
        await log.close()
        await engine.dispose()

"""Places for a log, by a word: a URL, a space, the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.operate.log_place import LogPlace
from bus.stores.mongo import MongoEffects, MongoEventLog, close, connect


@asynccontextmanager
async def opened(word: str) -> AsyncIterator[LogPlace]:
    """A log, which is closed after the block."""
    url, _, database = word.partition(" ")
    client = connect(url, select_within=2.0)
    log = MongoEventLog(client, database)
    effects = MongoEffects(client, database, log, projected=[], handled_for=3600)
    await log.open()
    try:
        yield LogPlace(database, log, effects)
    finally:
        await log.close()
        await effects.close()
        await close(client)

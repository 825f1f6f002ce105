"""The consumer written by hand, over asyncpg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg

from bench import side
from bench.projecting_sql.bare import Row, Upsert, drive, work
from bench.projecting_sql.service import url_of

INSERT = "INSERT INTO views VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET "
SETS = {
    "documents": "events = excluded.events, owner = excluded.owner, note = excluded.note",
    "checkpoints": "events = views.events + excluded.events, note = excluded.note",
}


@asynccontextmanager
async def upserting(arguments: side.Arguments) -> AsyncIterator[Upsert]:
    connection = await asyncpg.connect(url_of(arguments).replace("+asyncpg", ""))
    statement = INSERT + SETS[arguments["kind"]]

    async def upsert(rows: list[Row]) -> None:
        async with connection.transaction():
            await connection.executemany(statement, rows)

    yield upsert
    await connection.close()


if __name__ == "__main__":
    side.run(drive, worker=partial(work, upserting))

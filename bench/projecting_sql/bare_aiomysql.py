"""The consumer written by hand, over aiomysql, which makes one statement of many rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiomysql
from sqlalchemy import make_url

from bench import side
from bench.projecting_sql.bare import Row, Upsert, drive, work
from bench.projecting_sql.service import url_of

INSERT = "INSERT INTO views VALUES (%s, %s, %s, %s) ON DUPLICATE KEY UPDATE "
SETS = {
    "documents": "events = VALUES(events), owner = VALUES(owner), note = VALUES(note)",
    "checkpoints": "events = events + VALUES(events), note = VALUES(note)",
}


@asynccontextmanager
async def upserting(arguments: side.Arguments) -> AsyncIterator[Upsert]:
    place = make_url(url_of(arguments))
    connection = await aiomysql.connect(
        host=place.host,
        port=place.port,
        user=place.username,
        db=place.database,
        charset="utf8mb4",
    )
    statement = INSERT + SETS[arguments["kind"]]

    async def upsert(rows: list[Row]) -> None:
        async with connection.cursor() as cursor:
            await connection.begin()
            await cursor.executemany(statement, rows)
            await connection.commit()

    yield upsert
    connection.close()


if __name__ == "__main__":
    side.run(drive, worker=partial(work, upserting))

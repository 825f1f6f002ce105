"""The consumer written by hand, over asyncpg."""

import asyncpg

from bench import side
from bench.projecting_sql.bare import Row, drive, work
from bench.projecting_sql.service import url_of

INSERT = "INSERT INTO views VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET "
SETS = {
    "documents": "events = excluded.events, owner = excluded.owner, note = excluded.note",
    "checkpoints": "events = views.events + excluded.events, note = excluded.note",
}


async def project(arguments: side.Arguments) -> None:
    connection = await asyncpg.connect(url_of(arguments).replace("+asyncpg", ""))
    statement = INSERT + SETS[arguments["kind"]]

    async def upsert(rows: list[Row]) -> None:
        async with connection.transaction():
            await connection.executemany(statement, rows)

    await work(arguments, upsert)
    await connection.close()


if __name__ == "__main__":
    side.run(drive, worker=project)

"""The peer: one insert in a transaction of its own for each row, by aiomysql, our driver too.

A taken place in a stream is an error here too (the same unique index); what becomes of a repeat, or
of an insert that nobody answered, is left to the caller.
"""

import os

import aiomysql
from sqlalchemy import make_url

from bench import side
from bench.append_sql.rows import COLUMNS, POOL, check_stored, make_table, row_of
from bench.clock import Clock

WARM_UP = 1000
INSERT = (
    f"INSERT INTO bus_commits ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
)


async def measure(arguments: side.Arguments) -> side.Metrics:
    count, concurrent = arguments["count"], arguments["concurrent"]
    url = os.environ["BENCH_MARIADB_URL"]
    await make_table(url)
    place = make_url(url)
    async with aiomysql.create_pool(
        minsize=POOL,
        maxsize=POOL,
        host=place.host,
        port=place.port,
        user=place.username,
        db=place.database,
        charset="utf8mb4",
    ) as pool:

        async def insert(number: int) -> None:
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await connection.begin()
                await cursor.execute(INSERT, row_of(number))
                await connection.commit()

        await side.concurrently(WARM_UP, concurrent, lambda number: insert(-1 - number))
        with Clock() as clock:
            await side.concurrently(count, concurrent, insert)
    check_stored(url, count + WARM_UP)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)

"""The peer: one insert in a transaction of its own for each row, by asyncpg, our driver too.

A taken place in a stream is an error here too (the same unique index); what becomes of a repeat, or
of an insert that nobody answered, is left to the caller.
"""

import os

import asyncpg

from bench import side
from bench.append_sql.rows import COLUMNS, POOL, check_stored, make_table, row_of
from bench.clock import Clock

WARM_UP = 1000
INSERT = (
    f"INSERT INTO bus_commits ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))})"
)


async def measure(arguments: side.Arguments) -> side.Metrics:
    count, concurrent = arguments["count"], arguments["concurrent"]
    url = os.environ["BENCH_POSTGRESQL_URL"]
    await make_table(url)
    dsn = url.replace("+asyncpg", "")
    async with asyncpg.create_pool(dsn, min_size=POOL, max_size=POOL) as pool:

        async def insert(number: int) -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(INSERT, *row_of(number))

        await side.concurrently(WARM_UP, concurrent, lambda number: insert(-1 - number))
        with Clock() as clock:
            await side.concurrently(count, concurrent, insert)
    check_stored(url, count + WARM_UP)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)

"""Our side: `EventLog.append`, with the optimistic lock and the answer to repeats."""

import os

from bench import side
from bench.append.ours import commit_of
from bench.append_sql.rows import check_stored
from bench.clock import Clock
from bus.stores.sql import SqlEventLog, connect

WARM_UP = 2000


async def measure(arguments: side.Arguments) -> side.Metrics:
    count, concurrent = arguments["count"], arguments["concurrent"]
    url = os.environ[f"BENCH_{arguments['database'].upper()}_URL"]
    engine = connect(url)
    log = SqlEventLog(engine)

    async def append(number: int) -> None:
        await log.append([commit_of(number)])

    await log.open()
    await side.concurrently(WARM_UP, concurrent, lambda number: append(-1 - number))
    with Clock() as clock:
        await side.concurrently(count, concurrent, append)
    await log.close()
    await engine.dispose()
    check_stored(url, count + WARM_UP)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)

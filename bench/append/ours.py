"""Our side: `EventLog.append` over motor, with the optimistic lock and the answer to repeats."""

import os
from collections.abc import Callable
from datetime import UTC, datetime

from bench import side
from bench.append.documents import document_of
from bench.clock import Clock
from bench.queues import data_of
from bus.stores.event_log import Commit, Recorded
from bus.stores.mongo import MongoEventLog, close, connect
from bus.stores.records import commit_document

WARM_UP = 2000


def commit_of(number: int) -> Commit:
    command = f"c{number}"
    return Commit(
        id=command,
        stream=f"account-a{number}",
        category="account",
        first=1,
        events=(Recorded("AccountOpened", 1, data_of(number)),),
        time=datetime.now(UTC),
        correlation_id=command,
        causation_id=command,
        message="OpenAccount",
    )


async def measure(
    arguments: side.Arguments, make: Callable[[int], Commit] = commit_of
) -> side.Metrics:
    service, count, concurrent = (arguments[key] for key in ("service", "count", "concurrent"))
    assert {**commit_document(commit_of(0)), "time": 0} == {**document_of(0), "time": 0}
    client = connect(os.environ["BUS_MONGO_URL"])
    log = MongoEventLog(client, service)

    async def append(number: int) -> None:
        await log.append([make(number)])

    await log.open()
    await log.prepare_states("account", [])
    await side.concurrently(WARM_UP, concurrent, lambda number: append(-1 - number))
    with Clock() as clock:
        await side.concurrently(count, concurrent, append)
    await log.close()
    stored = await client[service]["commits"].count_documents({})
    await close(client)
    if stored != count + WARM_UP:
        raise SystemExit(f"{stored} of {count + WARM_UP} commits are stored")
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)

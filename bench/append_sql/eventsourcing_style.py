"""The peer: the recorder for PostgreSQL of the package `eventsourcing`, called from threads.

It inserts by a function in the database, which is its quicker way: a round trip for each event.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment

from bench import side
from bench.clock import Clock

WARM_UP = 500
NOTE = "x" * 450
POOL = os.environ.get("BENCH_POOL", "32")


def event_of(number: int) -> StoredEvent:
    state = json.dumps({"account_id": f"a{number}", "owner": "Ada", "note": NOTE}).encode()
    return StoredEvent(uuid4(), 1, "accounts:AccountOpened", state)


def environment() -> Environment:
    place = urlsplit(os.environ["BENCH_POSTGRESQL_URL"])
    return Environment(
        "accounts",
        {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": place.path.lstrip("/"),
            "POSTGRES_HOST": str(place.hostname),
            "POSTGRES_PORT": str(place.port),
            "POSTGRES_USER": str(place.username),
            "POSTGRES_PASSWORD": "none",
            "POSTGRES_POOL_SIZE": POOL,
            "POSTGRES_CONNECT_TIMEOUT": "30",
            "POSTGRES_ENABLE_DB_FUNCTIONS": os.environ.get("BENCH_FUNCTIONS", "y"),
        },
    )


async def measure(arguments: side.Arguments) -> side.Metrics:
    count, concurrent = arguments["count"], arguments["concurrent"]
    factory: Any = InfrastructureFactory.construct(environment())
    recorder = factory.application_recorder()

    def insert(number: int) -> None:
        recorder.insert_events([event_of(number)])

    with ThreadPoolExecutor(concurrent) as threads:
        list(threads.map(insert, range(WARM_UP)))
        with Clock() as clock:
            list(threads.map(insert, range(count)))
    stored = recorder.max_notification_id()
    factory.close()
    if stored != count + WARM_UP:
        raise SystemExit(f"{stored} of {count + WARM_UP} events are stored")
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)

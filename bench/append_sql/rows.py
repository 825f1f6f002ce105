"""The row of one commit and its table, as the event log keeps them: what somebody would write who
keeps the same by hand. The table is made by the event log."""

import json
import os
from datetime import UTC, datetime
from typing import Any

from bench.queues import data_of
from bus.stores.sql import SqlEventLog, connect
from tools.services import statements

COLUMNS = (
    *("id", "stream", "category", "first", "last", "time", "correlation_id", "causation_id"),
    *("message", "digest", "events", "pending"),
)
POOL = int(os.environ.get("BENCH_POOL", "32"))
"""Connections of a peer."""


def row_of(number: int) -> tuple[Any, ...]:
    command, now = f"c{number}", datetime.now(UTC)
    event = {"name": "AccountOpened", "schema": 1, "data": data_of(number)}
    return (
        *(command, f"account-a{number}", "account", 1, 1, now, command, command),
        *("OpenAccount", "", json.dumps([event]), True),
    )


async def make_table(url: str) -> None:
    """Makes the tables of the event log, with their indexes."""
    engine = connect(url)
    log = SqlEventLog(engine)
    await log.open()
    await log.close()
    await engine.dispose()


def check_stored(url: str, count: int) -> None:
    """Raises: SystemExit if not all is stored."""
    ((stored,),) = statements.run(url, "SELECT count(*) FROM bus_commits")
    if stored != count:
        raise SystemExit(f"{stored} of {count} commits are stored")

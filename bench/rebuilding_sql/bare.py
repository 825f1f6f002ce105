"""A loop written by hand over the drivers: scans the log, folds (pydantic), inserts.

As `bench/rebuilding` has it, by a thousand rows in one transaction, or by upserts of 500 events in
the order of time.
"""

from functools import partial
from typing import Any

from bench import side
from bench.projecting import race
from bench.projecting.bare import Deposited
from bench.projecting_sql.bare import CREATE, Upserting, row_of
from bench.projecting_sql.service import until_rows_are, url_of
from bench.rebuilding.bare import build
from bench.rebuilding.history import stored_history
from tools.services import statements


async def work(upserting: Upserting, arguments: side.Arguments) -> None:
    async with upserting(arguments) as upsert:

        async def insert(made: list[dict[str, Any]]) -> None:
            await upsert([(one["_id"], one["events"], one["owner"], one["note"]) for one in made])

        async def store(events: list[Deposited]) -> None:
            await upsert([row_of(event, arguments["kind"]) for event in events])

        await build(arguments, insert, store)


async def drive(arguments: side.Arguments) -> side.Metrics:
    statements.run(url_of(arguments), CREATE)
    return await until_built(arguments)


async def until_built(arguments: side.Arguments) -> side.Metrics:
    """Stores the history, lets the worker go, and waits for the rows."""
    backlog = await stored_history(arguments)
    built = partial(until_rows_are, arguments, backlog)
    return await race.until_projected({**arguments, "partitions": 1}, backlog, projected=built)

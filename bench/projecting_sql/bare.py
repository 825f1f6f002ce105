"""A consumer written by hand over the drivers: decodes (pydantic), upserts, acknowledges.

What has arrived is upserted by one transaction of up to 1000 and acknowledged by one frame. No
versions: what comes twice is counted twice, what comes late overwrites what is newer, what is
missing stays missing, a message that cannot be read ends it.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from bench import side
from bench.projecting import bare
from bench.projecting.bare import Deposited
from bench.projecting_sql.service import until_rows_are, url_of
from tools.services import statements

CREATE = (
    "CREATE TABLE views (id VARCHAR(50) PRIMARY KEY, events INTEGER NOT NULL, owner VARCHAR(50), "
    "note VARCHAR(500))"
)
Row = tuple[str, int, str | None, str]
Upsert = Callable[[list[Row]], Awaitable[None]]
Upserting = Callable[[side.Arguments], AbstractAsyncContextManager[Upsert]]
"""Connects by a driver."""


def row_of(event: Deposited, kind: str) -> Row:
    """The key, the number that is set or added, the rest."""
    if kind == "documents":
        return event.account_id, event.number, event.owner, event.note
    return event.owner, 1, None, event.note


async def work(upserting: Upserting, arguments: side.Arguments) -> None:
    """Consumes until it is stopped."""
    async with upserting(arguments) as upsert:

        async def store(events: list[Deposited]) -> None:
            await upsert([row_of(event, arguments["kind"]) for event in events])

        await bare.consume(arguments, store)


async def drive(arguments: side.Arguments) -> side.Metrics:
    statements.run(url_of(arguments), CREATE)
    return await bare.drive(arguments, projected=until_rows_are)

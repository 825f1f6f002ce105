"""A consumer written by hand over the drivers: decodes (pydantic), upserts, acknowledges.

What has arrived is upserted by one transaction of up to 500 and acknowledged by one frame. No
versions: what comes twice is counted twice, what comes late overwrites what is newer, what is
missing stays missing, a message that cannot be read ends it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiormq

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting.bare import BATCH, PREFETCH, Deposited, declare, queue_of
from bench.projecting_sql.service import until_rows_are, url_of
from bus import Bus, Settings
from tools.services import statements

CREATE = (
    "CREATE TABLE views (id VARCHAR(50) PRIMARY KEY, events INTEGER NOT NULL, owner VARCHAR(50), "
    "note VARCHAR(500))"
)
Row = tuple[str, int, str | None, str]
Upsert = Callable[[list[Row]], Awaitable[None]]


def row_of(event: Deposited, kind: str) -> Row:
    """The key, the number that is set or added, the rest."""
    if kind == "documents":
        return event.account_id, event.number, event.owner, event.note
    return event.owner, 1, None, event.note


async def work(arguments: side.Arguments, upsert: Upsert) -> None:
    """Consumes until it is stopped."""
    connection = await aiormq.connect(os.environ["BUS_AMQP_URL"])
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    arrived: list[Any] = []
    changed = asyncio.Event()

    async def on_message(message: Any) -> None:
        arrived.append(message)
        changed.set()

    async def project() -> None:
        while True:
            await changed.wait()
            changed.clear()
            while arrived:
                batch = arrived[:BATCH]
                del arrived[:BATCH]
                events = [Deposited.model_validate_json(message.body) for message in batch]
                await upsert([row_of(event, arguments["kind"]) for event in events])
                await channel.basic_ack(batch[-1].delivery_tag, multiple=True, wait=False)

    stop = await race.ready()
    with race.told():
        await channel.basic_consume(queue_of(arguments, 0), on_message)
        running = asyncio.create_task(project())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()
    running.cancel()
    await connection.close()


async def drive(arguments: side.Arguments) -> side.Metrics:
    arguments = {**arguments, "partitions": 1}
    backlog = Backlog(arguments)
    statements.run(url_of(arguments), CREATE)
    async with Bus(arguments["service"], settings=Settings()) as bus:
        await declare(arguments)
        await fill(bus, backlog)
    projected = partial(until_rows_are, arguments, backlog)
    return await race.until_projected(arguments, backlog, projected=projected)

"""One watcher, in another process than the worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting.ours import work
from bench.projecting.service import AccountView, projection
from bus import Bus, Documents, Query, Router, Settings

queries = Router("queries")


class GetEvents(Query[int]):
    """How many events an account shows."""

    account_id: str


@queries.query
async def get_events(query: GetEvents, documents: Documents[AccountView]) -> int:
    account = await documents.get(query.account_id)
    return account.events if account else 0


async def drive(arguments: side.Arguments) -> side.Metrics:
    backlog = Backlog(arguments)
    views = projection(arguments["kind"], arguments["partitions"])
    made = Bus(arguments["service"], routers=[queries], projections=[views], settings=Settings())
    async with made as bus:
        await fill(bus, backlog)
        async with _watched(bus, "a0") as answers:
            metrics = await race.until_projected(arguments, backlog)
            return {**metrics, "answers": len(answers)}


@asynccontextmanager
async def _watched(bus: Bus, account_id: str) -> AsyncIterator[list[int]]:
    answers: list[int] = []
    listening = asyncio.Event()

    async def watch() -> None:
        async for answer in bus.watch(GetEvents(account_id=account_id)):
            answers.append(answer)
            listening.set()

    task = asyncio.create_task(watch())
    await listening.wait()
    yield answers
    task.cancel()
    await asyncio.wait([task])


if __name__ == "__main__":
    side.run(drive, worker=work)

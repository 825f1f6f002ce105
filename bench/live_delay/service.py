"""The accounts, their number as a query, and how the delays of either side are measured."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from bench import side
from bench.service import NOTE, AccountView, OpenAccount, accounts, views
from bus import Bus, Documents, Query, Receipt, Router, Settings, Worker

PAUSE = 0.2
"""Longer than a watcher's own pause between two answers, so that it delays none."""

Seen = Callable[[Receipt, int], Awaitable[object]]
"""Returns when the caller has an answer with so many accounts."""

queries = Router("queries")


class CountAccounts(Query[int]):
    pass


@queries.query
async def count_accounts(query: CountAccounts, documents: Documents[AccountView]) -> int:
    return await documents.count({})


def build(service: str) -> Bus:
    return Bus(service, routers=[accounts, queries], projections=[views], settings=Settings())


async def work(arguments: side.Arguments) -> None:
    async with build(arguments["service"]) as bus, Worker(bus, only=["views"]):
        await side.ready_until_stopped()


async def delays(bus: Bus, count: int, seen: Seen) -> side.Metrics:
    total, executing = [], []
    for number in range(1, count + 1):
        await asyncio.sleep(PAUSE)
        started = time.perf_counter()
        receipt = await bus.execute(OpenAccount(account_id=f"a{number}", owner="Ada", note=NOTE))
        executing.append(time.perf_counter() - started)
        await seen(receipt, number)
        total.append(time.perf_counter() - started)
    return {
        "median_ms": statistics.median(total) * 1000,
        "p99_ms": sorted(total)[int(count * 0.99)] * 1000,
        "execute_ms": statistics.median(executing) * 1000,
    }

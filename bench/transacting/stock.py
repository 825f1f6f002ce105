"""The stock that is counted, as both sides write it, and the peers' transaction.

A handler that is written by hand reads what is there, changes it, and stores an event beside it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.read_concern import ReadConcern

from bench import side
from bench.append.documents import INDEXES, document_of
from bench.clock import Clock

WARM_UP = 500
ARTICLES = 20_000
"""So many that hardly two commands meet."""

Transact = Callable[[Callable[[Any], Awaitable[None]]], Awaitable[object]]
"""Runs a function with the driver's session, in a transaction."""

SNAPSHOT = ReadConcern("snapshot")
DURABLE = WriteConcern("majority", j=True)


def article_of(number: int) -> str:
    return f"article{number % ARTICLES}"


async def by_hand(database: Any, transact: Transact, arguments: side.Arguments) -> side.Metrics:
    """The peers' side, by either driver."""
    count, concurrent = arguments["count"], arguments["concurrent"]
    stock, commits = database["stock"], database["commits"]
    await commits.create_indexes(INDEXES)
    await database.create_collection("stock")  # within transactions, this conflicts

    async def count_one(number: int) -> None:
        key = article_of(number)

        async def change(session: Any) -> None:
            found = await stock.find_one({"_id": key}, session=session)
            left = (found["left"] if found else 0) + 1
            update = {"$set": {"left": left}}
            await stock.update_one({"_id": key}, update, upsert=True, session=session)
            await commits.insert_one(document_of(number), session=session)

        await transact(change)

    await side.concurrently(WARM_UP, concurrent, lambda number: count_one(-1 - number))
    with Clock() as clock:
        await side.concurrently(count, concurrent, count_one)
    await checked(stock, commits, count + WARM_UP)
    return clock.metrics(count)


async def checked(stock: Any, commits: Any, count: int) -> None:
    """Raises: SystemExit if not all is stored."""
    stored = await commits.count_documents({})
    left = sum(row["left"] for row in await stock.find({}).to_list(None))
    if (stored, left) != (count, count):
        raise SystemExit(f"{stored} commits and {left} pieces are stored, and not {count} each")


def options() -> dict[str, Any]:
    """Those of a transaction that is as durable as ours."""
    return {
        "read_concern": SNAPSHOT,
        "write_concern": DURABLE,
        "read_preference": ReadPreference.PRIMARY,
    }

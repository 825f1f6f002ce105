"""The peer: `with_transaction` by PyMongo's own asynchronous client."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.transacting.stock import by_hand, options


async def measure(arguments: side.Arguments) -> side.Metrics:
    async with AsyncMongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client:

        async def transact(change: Callable[[Any], Awaitable[None]]) -> None:
            async with client.start_session() as session:
                await session.with_transaction(change, **options())

        return await by_hand(client[arguments["service"]], transact, arguments)


if __name__ == "__main__":
    side.run(measure)

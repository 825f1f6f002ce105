"""The peer: `with_transaction` by motor, which is our driver too."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from bench import side
from bench.transacting.stock import by_hand, options


async def measure(arguments: side.Arguments) -> side.Metrics:
    client: Any = AsyncIOMotorClient(os.environ["BUS_MONGO_URL"])

    async def transact(change: Callable[[Any], Awaitable[None]]) -> None:
        async with await client.start_session() as session:
            await session.with_transaction(change, **options())

    found = await by_hand(client[arguments["service"]], transact, arguments)
    client.close()
    return found


if __name__ == "__main__":
    side.run(measure)

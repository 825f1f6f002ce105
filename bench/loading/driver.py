"""The same documents, read with the driver that the bus uses, as dicts and nothing else.

No events, no aggregate; it reads what a primary alone holds, as ours does, with no time limit.
"""

import os
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from bench import side
from bench.loading.service import build, fill, timed


async def drive(arguments: side.Arguments) -> side.Metrics:
    async with build(arguments["service"]) as bus:
        await fill(bus, arguments)
    client: Any = AsyncIOMotorClient(os.environ["BUS_MONGO_URL"])
    commits = client[arguments["service"]]["commits"]

    async def load(id: str) -> int:
        found = await commits.find({"stream": f"account-{id}"}).sort("first").to_list(None)
        return sum(len(commit["events"]) for commit in found)

    metrics = await timed(load, arguments)
    client.close()
    return metrics


if __name__ == "__main__":
    side.run(drive)

"""Our side, every guarantee on: majority and journaled writes, confirms, pending marks, exactly
once."""

import os

from bench import side
from bench.service import NOTE, OpenAccount, build
from bench.visible import all_visible
from bus import Worker


async def work(arguments: side.Arguments) -> None:
    async with build(arguments["service"]) as bus, Worker(bus, only=["views"]):
        await side.ready_until_stopped()


async def drive(arguments: side.Arguments) -> side.Metrics:
    count = arguments["count"]
    async with build(arguments["service"]) as bus:

        async def execute(number: int) -> None:
            await bus.execute(OpenAccount(account_id=f"a{number}", owner="Ada", note=NOTE))

        with side.worker(arguments):
            seconds = await side.concurrently(count, arguments["concurrent"], execute)
            seconds += await all_visible(os.environ["BUS_MONGO_URL"], arguments["service"], count)
    return {"per_second": count / seconds}


if __name__ == "__main__":
    side.run(drive, worker=work)

"""Our side: a worker with every guarantee on."""

import asyncio
import os

from bench import processes, side
from bench.service import NOTE, AccountOpened, OpenAccount, accounts, views
from bench.visible import all_visible
from bus import Bus, Router, Settings, Worker

mails = Router("mails")


@mails.event
async def on_account_opened(event: AccountOpened) -> None:
    pass


def build(arguments: side.Arguments) -> Bus:
    routers = [accounts, mails] if arguments["what"] == "ready" else [accounts]
    return Bus(arguments["service"], routers=routers, projections=[views], settings=Settings())


async def work(arguments: side.Arguments) -> None:
    async with build(arguments) as bus, Worker(bus):
        while not (await bus.health()).ready:  # noqa: ASYNC110  asks as a probe does
            await asyncio.sleep(0.002)
        await side.ready_until_stopped()


async def measure(arguments: side.Arguments) -> side.Metrics:
    return await processes.measure(arguments, load, module="bus", requirements=("doubledecker",))


async def load(arguments: side.Arguments) -> None:
    count = arguments["count"]
    async with build(arguments) as bus:

        async def execute(number: int) -> None:
            await bus.execute(OpenAccount(account_id=f"a{number}", owner="Ada", note=NOTE))

        await side.concurrently(count, 256, execute)
        await all_visible(os.environ["BUS_MONGO_URL"], arguments["service"], count)


if __name__ == "__main__":
    side.run(measure, worker=work)

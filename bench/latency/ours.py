"""Our side, every guarantee on."""

import os

from bench import side
from bench.latency.arrivals import WARM_UP, at_rate, latencies
from bench.latency.watching import watching
from bench.service import NOTE, OpenAccount, build
from bench.visible import all_visible
from bus import Worker


async def work(arguments: side.Arguments) -> None:
    async with build(arguments["service"]) as bus, Worker(bus, only=["views"]):
        await side.ready_until_stopped()


async def drive(arguments: side.Arguments) -> side.Metrics:
    rate, service = arguments["rate"], arguments["service"]
    count = int(rate * (arguments["seconds"] + WARM_UP))
    async with build(service) as bus:

        async def execute(key: str) -> None:
            await bus.execute(OpenAccount(account_id=key, owner="Ada", note=NOTE))

        with side.worker(arguments), watching(service) as seen:
            arrivals = await at_rate(rate, count, execute)
            await all_visible(os.environ["BUS_MONGO_URL"], service, count)
    measured = arrivals[int(rate * WARM_UP) :]
    return {"count": count, **latencies(measured, {key: when for key, _, when in seen})}


if __name__ == "__main__":
    side.run(drive, worker=work)

"""The answer comes by itself."""

from contextlib import aclosing

from bench import side
from bench.live_delay.service import CountAccounts, build, delays, work
from bus import Receipt


async def drive(arguments: side.Arguments) -> side.Metrics:
    async with (
        build(arguments["service"]) as bus,
        aclosing(bus.watch(CountAccounts())) as answers,
    ):

        async def seen(_: Receipt, wanted: int) -> None:
            while await anext(answers) < wanted:
                pass

        with side.worker(arguments):
            return await delays(bus, arguments["count"], seen)


if __name__ == "__main__":
    side.run(drive, worker=work)

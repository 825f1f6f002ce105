"""The answer is asked for, once it can include the change."""

from bench import side
from bench.live_delay.service import CountAccounts, build, delays, work
from bus import Receipt


async def drive(arguments: side.Arguments) -> side.Metrics:
    async with build(arguments["service"]) as bus:

        async def seen(receipt: Receipt, wanted: int) -> None:
            assert await bus.query(CountAccounts(), after=receipt) >= wanted

        with side.worker(arguments):
            return await delays(bus, arguments["count"], seen)


if __name__ == "__main__":
    side.run(drive, worker=work)

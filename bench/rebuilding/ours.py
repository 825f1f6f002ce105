"""Our side: worker processes of a service whose projection is new to its history."""

from functools import partial

from bench import side
from bench.projecting import race
from bench.projecting.service import build
from bench.rebuilding.history import stored_history
from bus import Worker


async def work(arguments: side.Arguments) -> None:
    async with build(arguments) as bus:
        stop = await race.ready()
        with race.told():
            async with Worker(bus, only=["views"]):
                await stop.wait()


async def drive(arguments: side.Arguments, workers: int = 1) -> side.Metrics:
    backlog = await stored_history(arguments)
    return await race.until_projected({**arguments, "partitions": 1}, backlog, workers)


drive_two = partial(drive, workers=2)

if __name__ == "__main__":
    side.run(drive, worker=work)

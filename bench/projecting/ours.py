"""Our side: a worker with every guarantee on, of one partition's queue each."""

from functools import partial

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting.service import build


async def work(arguments: side.Arguments) -> None:
    partition, partitions = arguments["partition"], arguments["partitions"]
    only = "views" if partitions == 1 else f"views.{partition}of{partitions}"
    await race.work(build(arguments), only)


async def drive(arguments: side.Arguments, partitions: int = 1) -> side.Metrics:
    arguments = {**arguments, "partitions": partitions}
    backlog = Backlog(arguments)
    async with build(arguments) as bus:
        await fill(bus, backlog)
    return await race.until_projected(arguments, backlog)


drive_two = partial(drive, partitions=2)

if __name__ == "__main__":
    side.run(drive, worker=work)

"""Our side: a worker with every guarantee on."""

from functools import partial

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting_sql.service import build, until_rows_are


async def work(arguments: side.Arguments) -> None:
    await race.work(build(arguments), "views")


async def drive(arguments: side.Arguments) -> side.Metrics:
    arguments = {**arguments, "partitions": 1}
    backlog = Backlog(arguments)
    async with build(arguments) as bus:
        await fill(bus, backlog)
    projected = partial(until_rows_are, arguments, backlog)
    return await race.until_projected(arguments, backlog, projected=projected)


if __name__ == "__main__":
    side.run(drive, worker=work)

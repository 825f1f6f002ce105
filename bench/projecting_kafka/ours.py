"""Our side: a worker with every guarantee on."""

from functools import partial

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting_kafka.service import build, topic, until_sent


async def work(arguments: side.Arguments) -> None:
    await race.work(build(arguments), "sent")


async def drive(arguments: side.Arguments) -> side.Metrics:
    arguments = {**arguments, "partitions": 1}
    backlog = Backlog(arguments)
    async with build(arguments) as bus:
        await bus.runtime.catalogue.prepare(bus.runtime.projections[0], serves=True)
        await fill(bus, backlog)
    async with topic(arguments, makes=False):
        projected = partial(until_sent, arguments, backlog)
        return await race.until_projected(arguments, backlog, projected=projected)


if __name__ == "__main__":
    side.run(drive, worker=work)

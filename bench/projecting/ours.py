"""Our side: a worker with every guarantee on, of one partition's queue each.

The sweep at start is not what is asked here: another worker is taken to have swept just now.
"""

from functools import partial

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting.service import build
from bus import Bus, Worker, ambient
from bus.parts import Parts, Subscription
from bus.read.projection import Projection


class OnePartition:
    """A bus of which a worker sees no more than one queue of the projection."""

    def __init__(self, bus: Bus, partition: int) -> None:
        (views,) = (one for one in bus.parts.subscriptions if isinstance(one.of, Projection))
        share = Subscription(views.name, (views.queues[partition],), views.of)
        self.parts: Parts = bus.parts._replace(subscriptions=(share,))


async def work(arguments: side.Arguments) -> None:
    async with build(arguments) as bus:
        stop = await race.ready()
        with race.told():
            async with Worker(OnePartition(bus, arguments["partition"])):
                await stop.wait()


async def drive(arguments: side.Arguments, partitions: int = 1) -> side.Metrics:
    arguments = {**arguments, "partitions": partitions}
    backlog = Backlog(arguments)
    async with build(arguments) as bus:
        await fill(bus, backlog)
        for one in bus.parts.subscriptions:
            if isinstance(one.of, Projection):
                await bus.parts.read_store.mark_swept(one.of.target(), ambient.now())
    return await race.until_projected(arguments, backlog)


drive_two = partial(drive, partitions=2)

if __name__ == "__main__":
    side.run(drive, worker=work)

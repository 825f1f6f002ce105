"""Our side: a worker with every guarantee on."""

from functools import partial

from bench import side
from bench.projecting import race
from bench.projecting.backlog import Backlog, fill
from bench.projecting_search.service import build, until_documents_are, url_of
from tools.services.jars import search


async def work(arguments: side.Arguments) -> None:
    await race.work(build(arguments), "views")


async def drive(arguments: side.Arguments) -> side.Metrics:
    arguments = {**arguments, "partitions": 1}
    backlog, index = Backlog(arguments), f"{arguments['service']}-views"
    async with build(arguments) as bus:
        # The index is there before the clock runs, as that of the loop written by hand is.
        await bus.runtime.catalogue.prepare(bus.runtime.projections[0], serves=True)
        await fill(bus, backlog)
    projected = partial(until_documents_are, arguments, backlog, index)
    found = await race.until_projected(arguments, backlog, projected=projected)
    search.call(url_of(arguments), "DELETE", f"/{index}__v1")
    return found


if __name__ == "__main__":
    side.run(drive, worker=work)

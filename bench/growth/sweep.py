"""What it costs to compare commits with a read collection that has them all, as every sweep does.

Each commit is compared as often as it falls between a sweep and two minutes before the last one.
"""

import os
import time

from bench import side
from bench.growth.prefill import fill
from bench.growth.process import Usage
from bench.growth.service import build
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper


async def drive(arguments: side.Arguments) -> side.Metrics:
    depth, service = arguments["depth"], arguments["service"]
    fill(os.environ["BUS_MONGO_URL"], service, depth, arguments["payload"], swept=False)
    async with build(service) as bus:
        runtime = bus.runtime
        (views,) = (one.of for one in runtime.subscriptions if isinstance(one.of, Projection))
        writer = runtime.collections.writer(views.target(), f"{service}.views.sweep")
        projector = Projector(
            views, views.target(), runtime.event_log, runtime.collections, runtime.control, writer
        )
        usage = Usage({"worker": [os.getpid()], **arguments["pids"]})
        start = time.perf_counter()
        if missing := await Sweeper(
            projector, runtime.event_log, runtime.collections, runtime.control
        ).sweep():
            raise SystemExit(f"{missing} events were missing")
        seconds = time.perf_counter() - start
        await projector.close()
        return {"per_second": depth / seconds, **usage.for_each(depth)}


if __name__ == "__main__":
    side.run(drive)

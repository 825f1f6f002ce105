"""A worker that kills itself while it writes its third batch, or loads a table that is built anew.
Arguments: service, when.

It posts jobs through its own bus; their rows are in the log's database.
"""

import asyncio
import os
import sys

import pytest

from bus import Projections, Settings, Worker
from bus.stores.sql.tables.writing.batch import Batch
from bus.stores.sql.tables.writing.loading import Load
from tests.killing import lethal
from tests.service.sheets import Apply, Post, build, jobs_of, totals_of

SERVICE, WHEN = sys.argv[1:3]
LETHAL = 3


async def main() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(Batch, "_change", lethal(Batch._change, "the rows", when=WHEN, time=LETHAL))
    patch.setattr(Batch, "write", lethal(Batch.write, "the batch", when=WHEN, time=LETHAL))
    loads, load = Load._change, Load.run
    patch.setattr(Load, "_change", lethal(loads, "the loaded rows", when=WHEN, time=1))
    patch.setattr(Load, "run", lethal(load, "the load", when=WHEN, time=1))
    url = os.environ["BUS_LOG_URL"]
    async with build(Settings(), SERVICE, jobs_of(url), totals_of(url)) as bus, Worker(bus):
        for number in range(5):
            await bus.execute(Post(job_id=f"j{number}", title=f"Job j{number}"), id=f"p{number}")
            await bus.execute(Apply(job_id=f"j{number}"), id=f"a{number}")
            await asyncio.sleep(0.05)
        if "load" in WHEN:
            await Projections(bus).rebuild("jobs_table")
        await asyncio.sleep(30)


asyncio.run(main())

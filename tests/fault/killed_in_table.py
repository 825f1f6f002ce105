"""A worker that kills itself while it writes its third batch. Arguments: service, when.

It posts jobs through its own bus; their rows are in the log's database.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from bus import Settings, Worker
from bus.stores.sql.tables.writing import Batch
from tests.service.sheets import Apply, Post, build, jobs_of, totals_of

SERVICE, WHEN = sys.argv[1:3]
LETHAL = 3


def lethal(call: Any, what: str) -> Any:
    """Returns the call, which is the last one the third time."""
    count = 0

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        own = count  # another projection's batch may come meanwhile
        if own == LETHAL and f"before {what}" == WHEN:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await call(*given, **named)
        if own == LETHAL and f"after {what}" == WHEN:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


async def main() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(Batch, "_change", lethal(Batch._change, "the rows"))
    patch.setattr(Batch, "write", lethal(Batch.write, "the batch"))
    url = os.environ["BUS_LOG_URL"]
    async with build(Settings(), SERVICE, jobs_of(url), totals_of(url)) as bus, Worker(bus):
        for number in range(5):
            await bus.execute(Post(job_id=f"j{number}", title=f"Job j{number}"), id=f"p{number}")
            await bus.execute(Apply(job_id=f"j{number}"), id=f"a{number}")
            await asyncio.sleep(0.05)
        await asyncio.sleep(30)


asyncio.run(main())

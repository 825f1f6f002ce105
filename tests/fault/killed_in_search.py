"""A worker that kills itself while it writes into an index. Arguments: step, service, engine."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from bus import Settings, Worker
from bus.stores.search import index
from bus.stores.search.index import Index
from tests.service.searching import service

STEP, NAME, URL = sys.argv[1:4]
put = Index._put
done: list[bool] = []
"""For each request that was carried out: whether it was of checkpoints."""


async def mortal(self: Index, ids: Sequence[str], parts: Sequence[bytes]) -> set[str]:
    is_last = ids[0].startswith("__stream__")
    if STEP == "before the documents" or (STEP == "after the documents" and is_last):
        _die()
    found = await put(self, ids, parts)
    done.append(is_last)
    if STEP == "between the documents" or (STEP == "after all" and is_last):
        _die()
    return found


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    index.AT_ONCE = 7  # so that a batch takes several requests
    Index._put = mortal  # type: ignore[method-assign]
    async with service(Settings(), NAME, URL) as bus, Worker(bus):
        await asyncio.sleep(60)


asyncio.run(main())

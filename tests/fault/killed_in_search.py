"""A worker that kills itself while it writes into an index. Arguments: step, service, engine."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Sequence

from bus import Settings, Worker
from bus.stores.search import index
from bus.stores.search.index import Index
from bus.stores.search.writing.records import Put
from tests.service.searching import service

STEP, NAME, URL = sys.argv[1:4]
put, put_all = Index._put, Index.put


async def mortal(self: Index, puts: Sequence[Put], parts: Sequence[bytes]) -> set[str]:
    is_last = puts[0].id.startswith("__stream__")
    if STEP == "before the documents" or (STEP == "after the documents" and is_last):
        _die()
    found = await put(self, puts, parts)
    if STEP == "between the documents" or (STEP == "after all" and is_last):
        _die()
    return found


async def mortal_at_last(self: Index, puts: Iterable[Put]) -> set[str]:
    left = await put_all(self, puts)
    if STEP == "after the jobs" and "job_search" in self.name:
        _die()
    return left


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    index.AT_ONCE = 7  # so that a batch takes several requests
    Index._put = mortal  # type: ignore[method-assign]
    Index.put = mortal_at_last  # type: ignore[method-assign]
    async with service(Settings(), NAME, URL) as bus, Worker(bus):
        await asyncio.sleep(60)


asyncio.run(main())

"""The load: many authors at once on one bus, until SIGTERM. `python -m tools.soak.load --help`.

Started again after a kill, it goes on from its ledger: what has no outcome is sent again.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import uvloop

from bus import Bus, Receipt, Settings, StoreUnavailable, log
from tools.soak.calls import PAUSE, Caller
from tools.soak.ledger import Ledger, progress
from tools.soak.script import script
from tools.soak.service import build


class Load:
    """Runs author after author, `authors` of them at a time."""

    def __init__(self, caller: Caller, ledger: Ledger, seed: int) -> None:
        self._caller = caller
        self._ledger = ledger
        self._seed = seed
        self._stopping = False

    def stop(self) -> None:
        """Begins no further step; what was sent gets its outcome."""
        self._stopping = True

    async def run(self, ledger_path: Path, authors: int) -> None:
        before = progress(ledger_path)
        unfinished = list(before.unfinished.items())
        fresh = count(before.next_author)

        async def one_after_the_other() -> None:
            while not self._stopping:
                author, done = unfinished.pop() if unfinished else (next(fresh), frozenset())
                await self._play(author, done)

        async with asyncio.TaskGroup() as group:
            for _ in range(authors):
                group.create_task(one_after_the_other())

    async def _play(self, author: int, done: Collection[str]) -> None:
        job = f"j{author}"
        versions: dict[str, int] = {f"job-{job}": 1}
        for step in script(self._seed, author):
            if step.id in done:
                continue
            if self._stopping:
                return
            after = Receipt(step.id, versions) if step.reads_own else None
            receipt = await self._caller.call(step, after)
            if receipt is not None:
                versions |= receipt.versions
        # This also keeps the load from running away from what projects it.
        await self._caller.read(job, Receipt("", versions))
        self._ledger.finished(author)


@asynccontextmanager
async def opened() -> AsyncIterator[Bus]:
    """The service's bus, as soon as MongoDB is there."""
    async with AsyncExitStack() as stack:
        bus = None
        while bus is None:
            try:
                bus = await stack.enter_async_context(build(Settings()))
            except StoreUnavailable:
                await asyncio.sleep(PAUSE)
        yield bus


async def main(ledger_path: Path, seed: int, authors: int) -> None:
    with Ledger(ledger_path) as ledger:
        async with opened() as bus:
            load = Load(Caller(bus, ledger), ledger, seed)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop)
            await load.run(ledger_path, authors)
        own = asyncio.current_task()
        ledger.ended([str(task) for task in asyncio.all_tasks() if task is not own])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.soak.load")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--authors", type=int, required=True, help="how many at a time")
    options = parser.parse_args()
    log.configure(json=True, level=os.environ.get("BUS_LOG_LEVEL", "WARNING"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(options.ledger, options.seed, options.authors))

"""A worker that stands still within its second batch, as long as nobody has it go on.

Arguments: when, what its projections are kept in, service, URL. It prints "went on" once that batch
has ended, however it did.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from bus import Bus, Settings, Worker
from bus.kafka import KafkaTopic
from bus.kafka.outlet import KafkaOutlet
from bus.stores.search.index import Index
from bus.stores.search.place import SearchPlace
from bus.stores.sinks.sent import SentPlace
from bus.stores.sql.tables.place import TablePlace
from bus.stores.sql.tables.writing.batch import Batch
from tests.killing import lethal
from tests.service import searching, sending, sheets

WITHIN: dict[str, tuple[type, str]] = {
    "table": (Batch, "_change"),
    "index": (Index, "put"),
    "topic": (KafkaOutlet, "send"),
}
"""Where it stands still, before or after that: within what is one step for `WHOLE`."""
WHOLE: dict[str, tuple[type, str]] = {
    "table": (TablePlace, "write"),
    "index": (SearchPlace, "write"),
    "topic": (SentPlace, "send"),
}
TIME = 2


def built(kept_in: str, settings: Settings, service: str, url: str) -> Bus:
    match kept_in:
        case "table":
            jobs, totals = sheets.jobs_of(url), sheets.totals_of(url)
            return sheets.build(settings, service, jobs, totals)
        case "index":
            return searching.service(settings, service, url)
        case _:
            return sending.bank(settings, service, KafkaTopic(service, url=url, partitions=2))


class Late:
    """Tells of the call that was begun before the process stood still."""

    stood_still = False

    def stop(self) -> None:
        self.stood_still = True
        os.kill(os.getpid(), signal.SIGSTOP)

    def told(self, call: Any) -> Any:
        async def told(*given: Any, **named: Any) -> Any:
            before = self.stood_still
            try:
                return await call(*given, **named)
            finally:
                if self.stood_still and not before:
                    print("went on", flush=True)

        return told


async def main(when: str, kept_in: str, service: str, url: str) -> None:
    patch, late = pytest.MonkeyPatch(), Late()
    of, name = WITHIN[kept_in]
    stopping = lethal(getattr(of, name), "it", when=f"{when} it", time=TIME, end=late.stop)
    patch.setattr(of, name, stopping)
    of, name = WHOLE[kept_in]
    patch.setattr(of, name, late.told(getattr(of, name)))
    async with built(kept_in, Settings(), service, url) as bus, Worker(bus):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

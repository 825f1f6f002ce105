"""Probe: how soon after a fault a fresh command's effect shows in the read models.

Every tenth of a second two jobs are posted, one for each partition of the job board; each is looked
for in MongoDB itself, past the bus, and in all stores where projections are kept elsewhere.
"""

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from tools.soak.calls import Caller
from tools.soak.plan import SERVICE
from tools.soak.script import Step
from tools.soak.sinks.elsewhere import Elsewhere
from write_models.jobs import PostJob

EVERY = 0.1
LOOK_EVERY = 0.02
MOST_OUTSTANDING = 50
RECOVERS_WITHIN, ELSEWHERE_WITHIN = 90.0, 180.0
PARTITIONS, SLOTS = 2, 64
COLLECTIONS = ("job_board", "job_replicas")


class NotRecovered(Exception):
    """A fault is long over, and commands have no effect yet."""


class Round:
    """The jobs that were posted together, and since when all of them are to be seen."""

    def __init__(self, jobs: list[str]) -> None:
        self.began = time.monotonic()
        self.missing = set(jobs)
        self.visible: float | None = None

    def seen(self, jobs: set[str]) -> None:
        self.missing -= jobs
        if not self.missing:
            self.visible = time.monotonic()


class Probe:
    """Posts probes while `run` runs."""

    def __init__(self, caller: Caller, mongo_url: str, elsewhere: Elsewhere) -> None:
        self._caller = caller
        self._url = mongo_url
        self._elsewhere = elsewhere
        self._within = ELSEWHERE_WITHIN if elsewhere.stores else RECOVERS_WITHIN
        self._numbers = count()
        self._outstanding: list[Round] = []
        self._visible: deque[Round] = deque(maxlen=100)
        self._calls: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def run(self) -> None:
        """Posts and looks until cancelled; what was sent still gets its outcome in the ledger."""
        looking = asyncio.create_task(self._look())
        try:
            while True:
                if len(self._outstanding) < MOST_OUTSTANDING:
                    self._begin()
                await asyncio.sleep(EVERY)
        finally:
            self._ending = True  # not by cancelling: PyMongo's client may lose a cancellation
            await asyncio.wait([looking, *self._calls])

    async def first_after(self, moment: float) -> float:
        """When the first round that began after `moment` was seen. Raises: NotRecovered."""
        self._begin()
        while time.monotonic() < moment + self._within:
            for one in self._visible:
                if one.began >= moment and one.visible:
                    return one.visible
            await asyncio.sleep(0.005)
        raise NotRecovered(f"no probe's effect was seen within {self._within:g} s")

    def _begin(self) -> None:
        jobs = [next(self._in_partition(number)) for number in range(PARTITIONS)]
        self._outstanding.append(Round(jobs))
        for job in jobs:
            step = Step(job, PostJob(job_id=job, title="Probe", description="of the soak"))
            call = asyncio.create_task(self._caller.call(step))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    def _in_partition(self, wanted: int) -> Iterator[str]:
        for number in self._numbers:
            job = f"probe{number}"
            if zlib.crc32(f"job-{job}".encode()) % SLOTS % PARTITIONS == wanted:
                yield job

    async def _look(self) -> None:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            self._url, serverSelectionTimeoutMS=1000, timeoutMS=2000, heartbeatFrequencyMS=500
        )
        database = client.get_database(SERVICE, read_concern=ReadConcern("majority"))
        async with client:
            while not self._ending:
                await asyncio.sleep(LOOK_EVERY)
                missing = [job for one in self._outstanding for job in one.missing]
                if missing:
                    self._note(await self._found(database, missing))

    async def _found(self, database: Any, jobs: list[str]) -> set[str]:
        found = await _found(database, jobs)
        if not self._elsewhere.stores:
            return found
        return await asyncio.to_thread(self._elsewhere.found, found)

    def _note(self, jobs: set[str]) -> None:
        for one in self._outstanding:
            one.seen(jobs)
        self._visible += [one for one in self._outstanding if one.visible]
        # What a restored log lacks is never seen.
        oldest = time.monotonic() - self._within
        self._outstanding = [
            one for one in self._outstanding if not one.visible and one.began > oldest
        ]


async def _found(database: Any, jobs: list[str]) -> set[str]:
    """Those of the jobs that all collections have; none while MongoDB does not answer."""
    found = set(jobs)
    try:
        cursor = database["projections"].find({"_id": {"$in": COLLECTIONS}}, {"active": 1})
        for known in await cursor.to_list(None):
            cursor = database[known["active"]].find({"_id": {"$in": jobs}}, {"_id": 1})
            found &= {document["_id"] for document in await cursor.to_list(None)}
    except PyMongoError:
        return set()
    return found

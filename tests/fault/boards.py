"""The job board with a long history, rebuilt while people use it and its builder is killed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from bus import Bus, Command, Event, Projections, Query, Settings
from bus.codec import record
from bus.common import clock
from bus.common.batches import batched
from bus.stores.event_log import Commit
from bus.stores.records import commit_document, encoded
from read_models.job_board import GetJob, ListJobs
from tests.end_to_end.processes import WorkerProcess
from tests.waiting import until
from write_models.applications import ApplicationSubmitted, SubmitApplication
from write_models.jobs import JobPosted, JobRevised, PostJob, ReviseJob, StaleVersion

Answer = TypeVar("Answer")

REVISIONS = 2
APPLICATIONS = 3
EVENTS_OF_A_JOB = 1 + REVISIONS + APPLICATIONS


def history(jobs: int) -> Iterator[Commit]:
    """Each job is posted, revised and applied for: EVENTS_OF_A_JOB commits, of an hour ago."""
    began = clock.now() - timedelta(hours=1)
    for number in range(jobs):
        job, stream, time = f"h{number}", f"job-h{number}", began + timedelta(milliseconds=number)
        said = {"job_id": job, "title": f"Job {number}", "description": "As it was."}
        yield _commit(stream, 1, JobPosted(**said), time)
        for version in range(2, 2 + REVISIONS):
            yield _commit(stream, version, JobRevised(**said), time + timedelta(minutes=version))
        for place in range(APPLICATIONS):
            id = f"{job}a{place}"
            applied = ApplicationSubmitted(
                application_id=id, job_id=job, job_title="Job", applicant="Ada", letter="Me."
            )
            yield _commit(f"application-{id}", 1, applied, time + timedelta(minutes=9))


def _commit(stream: str, version: int, event: Event, time: datetime) -> Commit:
    id, category = f"{stream}@{version}", stream.partition("-")[0]
    return Commit(id, stream, category, version, (record(event),), time, id, message="History")


async def fill(settings: Settings, jobs: int) -> None:
    """Stores the history as published, past the bus, and before it is opened."""
    async with AsyncMongoClient[dict[str, object]](settings.mongo_url) as client:
        commits = client[settings.mongo_db]["commits"]
        for some in batched(history(jobs), 2000):
            await commits.insert_many(map(_stored, some), ordered=False)


def _stored(commit: Commit) -> RawBSONDocument:
    document = commit_document(commit)
    del document["pending"]
    return RawBSONDocument(encoded(document))


class Board:
    """People who write on the board and read it, all the time; what they saw that was wrong."""

    def __init__(self, bus: Bus, jobs: int) -> None:
        self.wrong: list[str] = []
        self.reads = self.commands = 0
        self._bus = bus
        self._jobs = jobs
        self._chance = random.Random(jobs)
        self._done = False

    @asynccontextmanager
    async def used(self, rate: float) -> AsyncIterator[None]:
        """So many commands a second, and readers that poll, while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(tasks, rate))
            tasks.create_task(self._read_jobs())
            tasks.create_task(self._read_lists())
            try:
                yield
            finally:
                self._done = True

    async def _write(self, tasks: asyncio.TaskGroup, rate: float) -> None:
        began = time.monotonic()
        while not self._done:
            self.commands += 1
            tasks.create_task(self._execute(self._command()))
            await asyncio.sleep(max(0.0, began + self.commands / rate - time.monotonic()))

    async def _execute(self, command: Command) -> None:
        with suppress(StaleVersion):
            await self._bus.execute(command)

    def _command(self) -> Command:
        number, job = self.commands, f"h{self._chance.randrange(self._jobs)}"
        match number % 4:
            case 0:
                return PostJob(job_id=f"n{number}", title=f"New {number}", description="New.")
            case 1:
                version = 1 + REVISIONS
                return ReviseJob(job_id=job, version=version, title="Revised", description="New.")
            case _:
                return SubmitApplication(
                    application_id=f"n{number}", job_id=job, applicant="Bob", letter="Me."
                )

    async def _read_jobs(self) -> None:
        """Each job of the history is there, and none has fewer applications than before."""
        applications: dict[str, int] = {}
        while not self._done:
            job = f"h{self._chance.randrange(self._jobs)}"
            view = await self._read(GetJob(job_id=job))
            if view is None or view.applications < applications.get(job, APPLICATIONS):
                self.wrong.append(f"{job}: {view}, after {applications.get(job, APPLICATIONS)}")
            elif view:
                applications[job] = view.applications

    async def _read_lists(self) -> None:
        """The list never gets shorter."""
        total = 0
        while not self._done:
            page = await self._read(ListJobs(limit=5))
            if page is not None and page.total < total:
                self.wrong.append(f"{page.total} jobs, after {total}")
            total = page.total if page else total

    async def _read(self, query: Query[Answer]) -> Answer | None:
        """Whatever goes wrong in a read is wrong."""
        self.reads += 1
        try:
            return await self._bus.query(query)
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error}")
            return None
        finally:
            await asyncio.sleep(0.01)


class Rebuilt(NamedTuple):
    """How a rebuild went: how far it was at each kill and right after it (commits), in seconds to
    the switch."""

    collection: str
    kills: list[tuple[int, int]]
    seconds: float


async def rebuilt(bus: Bus, builder: WorkerProcess, kills: int, commits: int) -> Rebuilt:
    """Rebuilds the board; the builder is killed so many times on the way, and started again."""
    projections = Projections(bus)
    began = time.monotonic()
    collection = await projections.rebuild("job_board")

    async def progress() -> int:
        (one,) = [o for o in await projections.status("job_board") if o.collection == collection]
        return one.replayed

    told: list[tuple[int, int]] = []
    for number in range(kills):
        enough = commits * (number + 1) // (kills + 2)

        async def is_there(enough: int = enough) -> bool:
            return await progress() >= enough

        await until(is_there, f"{enough} commits are replayed", within=600)
        before = await progress()
        builder.kill()
        await builder.ended(within=30)
        told.append((before, await progress()))
        await builder.start()

    async def is_read() -> bool:
        found = await projections.status("job_board")
        return any(o.collection == collection and o.state == "read" for o in found)

    await until(is_read, f"readers are moved to {collection}", within=900)
    return Rebuilt(collection, told, time.monotonic() - began)

"""Jobs and applications as two services in processes of their own, which are killed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bus import Bus, NotBuilt, Settings
from bus.operate.projections import Projections
from handlers import applications_app, jobs_app
from read_models.applications_by_job import ListApplications
from read_models.job_board import GetJob
from read_models.job_replicas import projection as replicas
from tests.databases import drop
from tests.end_to_end.processes import WorkerProcess
from tests.waiting import in_parts, until
from write_models.applications import JobIsClosed, SubmitApplication, UnknownJob
from write_models.jobs import ArchiveJob, PostJob, ReviseJob

HISTORY = 3000
KILLS = 5

Names = dict[str, str]


@pytest.fixture
def names(unique: str, monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the two are called, here and in the processes of their workers."""
    found = {"JOBS_SERVICE": f"{unique}_jobs", "APPLICATIONS_SERVICE": f"{unique}_applications"}
    for variable, name in found.items():
        monkeypatch.setenv(variable, name)
    return found


@pytest.fixture
async def settings(amqp_url: str, mongo_url: str, names: Names) -> AsyncIterator[list[Settings]]:
    """Of the jobs and of the applications: a database for each."""
    yield [
        Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=name) for name in names.values()
    ]
    await drop(mongo_url, *names.values())


async def post(jobs: Bus, first: int, count: int) -> None:
    """Posts jobs; revises every second one."""

    async def one(number: int) -> None:
        await jobs.execute(PostJob(job_id=f"j{number}", title=f"Job {number}", description="d"))
        if number % 2:
            await revise(jobs, f"j{number}", 1)

    await in_parts(one(number) for number in range(first, first + count))


async def revise(jobs: Bus, job_id: str, version: int) -> None:
    title = f"Version {version + 1} of {job_id}"
    await jobs.execute(ReviseJob(job_id=job_id, version=version, title=title, description="d"))


async def replicas_by_the_log(jobs: Bus) -> dict[str, tuple[str, bool]]:
    """Title and whether archived, of each job: a fold of the log of the jobs."""
    found: dict[str, tuple[str, bool]] = {}
    async for page in jobs.runtime.event_log.scan_streams("job"):
        for commit in page:
            for event in commit.events:
                title, archived = found.get(event.data["job_id"], ("", False))
                is_archived = archived or event.name == "JobArchived"
                found[event.data["job_id"]] = event.data.get("title", title), is_archived
    return found


async def replicas_shown(applications: Bus) -> dict[str, tuple[str, bool]]:
    runtime = applications.runtime
    rows = await runtime.collections.documents(await runtime.catalogue.target(replicas)).find({})
    return {row["_id"]: (row["title"], row.get("archived", False)) for row in rows}


class Traffic:
    """Commands of both services, one after the other, until it is told to stop."""

    def __init__(self, jobs: Bus, applications: Bus) -> None:
        self._jobs, self._applications = jobs, applications
        self._chance = random.Random(7)
        self.submitted: dict[str, str] = {}
        self.archived: set[str] = set()
        self.done = False

    async def run(self) -> None:
        number = HISTORY
        while not self.done:
            number += 1
            await post(self._jobs, number, 1)
            await self._submit(f"a{number}", f"j{self._chance.randrange(number)}")
            if number % 7 == 0:
                job_id = self._chance.choice(list(self.submitted.values()) or ["j1"])
                await self._jobs.execute(ArchiveJob(job_id=job_id))
                self.archived.add(job_id)
            await asyncio.sleep(0.01)

    async def _submit(self, application_id: str, job_id: str) -> None:
        """Whoever knows no replica yet, or of no such job, cannot apply."""
        command = SubmitApplication(
            application_id=application_id, job_id=job_id, applicant="ada", letter="l"
        )
        try:
            await self._applications.execute(command)
            self.submitted[application_id] = job_id
        except (NotBuilt, UnknownJob, JobIsClosed):
            pass


async def until_right(jobs: Bus, applications: Bus, traffic: Traffic) -> None:
    """All that either service knows of the other one is so."""

    async def replicas_are() -> bool:
        return await replicas_shown(applications) == await replicas_by_the_log(jobs)

    async def all_are_closed() -> bool:
        closed = [
            one.status == "closed"
            for job_id in traffic.archived
            for one in (await applications.query(ListApplications(job_id=job_id, limit=100))).items
        ]
        return all(closed)

    async def all_are_counted() -> bool:
        counts = dict.fromkeys(traffic.submitted.values(), 0)
        for job_id in traffic.submitted.values():
            counts[job_id] += 1
        shown = {job_id: await jobs.query(GetJob(job_id=job_id)) for job_id in counts}
        return {job_id: job.applications for job_id, job in shown.items() if job} == counts

    await until(replicas_are, "the replicas equal a fold of the log of the jobs", within=30)
    await until(all_are_closed, "all applications for archived jobs are closed", within=30)
    await until(all_are_counted, "the job board counts every application", within=30)


async def test_a_replica_is_built_from_history_and_stays_right_while_workers_are_killed(
    settings: list[Settings], names: Names, tmp_path: Path
) -> None:
    """The jobs have a history before the applications are first started; then commands go on while
    the worker of either is killed again and again, in the middle of the history at first."""
    chance = random.Random(11)
    async with AsyncExitStack() as stack:
        jobs = await stack.enter_async_context(jobs_app.build(settings[0]))
        await post(jobs, 0, HISTORY)
        applications = await stack.enter_async_context(applications_app.build(settings[1]))
        workers = [
            WorkerProcess(of, "", tmp_path / f"{name}.log", target=target, names=names)
            for of, name, target in (
                (settings[0], "jobs", "handlers.jobs_app:build"),
                (settings[1], "applications", "handlers.applications_app:build"),
            )
        ]
        for worker in workers:
            await stack.enter_async_context(worker)
        traffic = Traffic(jobs, applications)
        going = asyncio.create_task(traffic.run())

        async def begun() -> bool:
            return bool((await applications.runtime.history.progress("job")).place)

        try:
            await until(begun, "the history has begun to come", within=20)
            for kill in range(KILLS):
                worker = workers[(kill + 1) % 2]
                worker.kill()
                await worker.ended(5)
                await worker.start()
                await asyncio.sleep(chance.uniform(1.0, 2.5))

            async def built() -> bool:
                both = [await Projections(one).status() for one in (jobs, applications)]
                return all(one.state == "read" for status in both for one in status)

            await until(built, "both have built what they read", within=60)
            await until(
                lambda: len(traffic.submitted) > 50, "applications are submitted", within=20
            )
        finally:
            traffic.done = True
            await going
        await until_right(jobs, applications, traffic)
        assert traffic.archived

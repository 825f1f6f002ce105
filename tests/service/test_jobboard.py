"""The job board through its bus: commands in, read models out."""

import asyncio
import time
from typing import NamedTuple

import pytest

from bus import AggregateNotFound, Bus, Receipt, Worker
from bus.read.projector import Projector
from handlers.closing import REASON
from read_models import job_board
from read_models.applicant_history import ApplicantHistory
from read_models.applications_by_job import ListApplications
from read_models.job_board import GetJob, ListJobs
from tests.service.conftest import Until
from tests.waiting import patience
from write_models.applications import CloseApplication, JobIsClosed, SubmitApplication, UnknownJob
from write_models.jobs import ArchiveJob, JobIsArchived, PostJob, ReviseJob, StaleVersion


async def post(bus: Bus, job_id: str = "j1", title: str = "Signaller") -> Receipt:
    return await bus.execute(PostJob(job_id=job_id, title=title, description="Night shifts."))


async def apply(
    bus: Bus, after: Receipt | None, application_id: str = "a1", job_id: str = "j1"
) -> Receipt:
    command = SubmitApplication(
        application_id=application_id, job_id=job_id, applicant="ada", letter="Take me."
    )
    return await bus.execute(command, after=after, timeout=30)


async def statuses(bus: Bus, job_id: str = "j1") -> list[str]:
    page = await bus.query(ListApplications(job_id=job_id, limit=100))
    return [application.status for application in page.items]


async def test_the_whole_life_of_a_job(bus: Bus, until: Until) -> None:
    posted = await post(bus)
    job = await bus.query(GetJob(job_id="j1"), after=posted, timeout=30)
    assert job is not None
    assert (job.title, job.status, job.version, job.applications) == ("Signaller", "open", 1, 0)

    revision = ReviseJob(job_id="j1", version=1, title="Dispatcher", description="Day shifts.")
    revised = await bus.execute(revision)
    assert revised.result == 2

    applied = [await apply(bus, revised, f"a{number}") for number in range(3)]
    for receipt in applied:
        await bus.query(ListJobs(), after=receipt, timeout=30)
    board = await bus.query(ListJobs())
    assert [(job.title, job.version, job.applications) for job in board.items] == [
        ("Dispatcher", 2, 3)
    ]

    archived = await bus.execute(ArchiveJob(job_id="j1"))
    assert (await bus.query(ListJobs(), after=archived, timeout=30)).total == 0
    job = await bus.query(GetJob(job_id="j1"))
    assert job is not None
    assert (job.status, job.version) == ("archived", 3)

    async def all_closed() -> bool:
        return await statuses(bus) == ["closed"] * 3

    await until(all_closed, "the applications of an archived job are not closed")

    async def told() -> bool:
        history = await bus.query(ApplicantHistory(applicant="ada"))
        return [(one.job_title, one.reason) for one in history.items] == [
            ("Dispatcher", REASON)
        ] * 3

    await until(told, "the applicant was not told")


async def test_an_application_for_an_unknown_job_is_refused(bus: Bus) -> None:
    with pytest.raises(UnknownJob):
        await apply(bus, None)
    assert await statuses(bus) == []


async def test_an_application_for_an_archived_job_is_refused(bus: Bus) -> None:
    await post(bus)
    archived = await bus.execute(ArchiveJob(job_id="j1"))
    with pytest.raises(JobIsClosed):
        await apply(bus, archived)


async def test_only_what_its_author_saw_can_be_revised(bus: Bus) -> None:
    await post(bus)

    async def revise(title: str) -> object:
        command = ReviseJob(job_id="j1", version=1, title=title, description="-")
        return (await bus.execute(command)).versions

    outcomes = await asyncio.gather(*map(revise, "abc"), return_exceptions=True)

    assert [type(one) for one in outcomes].count(StaleVersion) == 2
    assert {"job-j1": 2} in outcomes


async def test_an_archived_job_stays_as_it_is(bus: Bus) -> None:
    await post(bus)
    await bus.execute(ArchiveJob(job_id="j1"))
    with pytest.raises(JobIsArchived):
        await bus.execute(ReviseJob(job_id="j1", version=2, title="-", description="-"))
    again = await bus.execute(ArchiveJob(job_id="j1"))
    assert again.versions == {}


async def test_a_job_that_nobody_posted_cannot_be_changed(bus: Bus) -> None:
    with pytest.raises(AggregateNotFound):
        await bus.execute(ArchiveJob(job_id="nobody"))


async def test_closing_twice_changes_nothing(bus: Bus) -> None:
    await apply(bus, await post(bus))
    closed = await bus.execute(CloseApplication(application_id="a1", reason="withdrawn"))
    again = await bus.execute(CloseApplication(application_id="a1", reason="forgotten"))

    assert again.versions == {}
    history = await bus.query(ApplicantHistory(applicant="ada"), after=closed, timeout=30)
    assert [one.reason for one in history.items] == ["withdrawn"]


async def test_an_application_may_be_projected_before_its_job(idle: Bus) -> None:
    """The board first reads a job of which it knows an application only."""
    async with Worker(idle, only=["job_replicas"]):
        posted = await post(idle)
        applied = await apply(idle, posted)
    projector = Projector(
        job_board.projection,
        job_board.projection.target(),
        idle.runtime.event_log,
        idle.runtime.collections,
        idle.runtime.control,
        idle.runtime.collections.writer(job_board.projection.target(), "test"),
    )
    await projector.apply_streams(["application-a1"])

    assert await idle.query(GetJob(job_id="j1"), after=applied, timeout=30) is None
    assert (await idle.query(ListJobs())).total == 0

    await projector.apply_streams(["job-j1"])
    await projector.close()
    job = await idle.query(GetJob(job_id="j1"), after=posted, timeout=30)
    assert job is not None
    assert (job.title, job.applications) == ("Signaller", 1)


class Late(NamedTuple):
    """What came of archiving a job, and of applying for it before the replica knew."""

    archived: Receipt
    applied: Receipt


async def apply_too_late(idle: Bus) -> Late:
    async with Worker(idle, only=["job_replicas"]):
        await apply(idle, await post(idle), "early")
    archived = await idle.execute(ArchiveJob(job_id="j1"))
    return Late(archived, await apply(idle, None, "late"))


async def both_closed(bus: Bus) -> bool:
    return await statuses(bus) == ["closed", "closed"]


async def test_a_late_application_is_closed_when_the_replica_learns_last(
    idle: Bus, until: Until
) -> None:
    late = await apply_too_late(idle)
    async with Worker(idle, only=["closing", "commands", "applications_by_job"]):
        await idle.query(ListApplications(job_id="j1"), after=late.applied, timeout=30)
        assert await statuses(idle) == ["open", "open"]
        async with Worker(idle, only=["job_replicas"]):
            await until(lambda: both_closed(idle), "an application stayed open")


async def test_a_late_application_is_closed_when_it_is_listed_last(idle: Bus, until: Until) -> None:
    late = await apply_too_late(idle)
    async with Worker(idle, only=["closing", "commands", "job_replicas"]):
        with pytest.raises(JobIsClosed):
            await apply(idle, late.archived, "refused")
        assert await statuses(idle) == []
        async with Worker(idle, only=["applications_by_job"]):
            await until(lambda: both_closed(idle), "an application stayed open")


async def test_a_stopping_worker_lets_its_handlers_see_its_own_projections(idle: Bus) -> None:
    """A handler at work waits for a projection of the same worker; each time it is stopped a little
    later, so that some of them catch the handler waiting."""
    for number in range(10):
        async with Worker(idle):
            await idle.execute(PostJob(job_id=f"n{number}", title="-", description="-"))
            await idle.execute(ArchiveJob(job_id=f"n{number}"))
            await asyncio.sleep(0.005 * number)
            began = time.monotonic()
        assert time.monotonic() - began < 10 * patience()


async def test_no_application_of_an_archived_job_stays_open(bus: Bus, until: Until) -> None:
    """Archives jobs while people go on applying, until the replica stops them."""
    jobs = [f"j{number}" for number in range(5)]
    posted = [await post(bus, job) for job in jobs]

    async def apply_until_refused(job: str, after: Receipt) -> int:
        accepted = 0
        async with asyncio.TaskGroup() as beside:
            while True:
                if accepted == 3:
                    beside.create_task(bus.execute(ArchiveJob(job_id=job)))
                try:
                    await apply(bus, after, f"{job}-{accepted}", job)
                except JobIsClosed:
                    return accepted
                accepted += 1

    counts = await asyncio.gather(*map(apply_until_refused, jobs, posted))

    async def settled() -> bool:
        found = [status for job in jobs for status in await statuses(bus, job)]
        return found == ["closed"] * sum(counts)

    await until(settled, f"not all of {sum(counts)} applications are closed")


async def test_lists_come_in_pages(bus: Bus) -> None:
    for number in range(5):
        receipt = await post(bus, f"j{number}", f"Job {number}")
        await bus.query(ListJobs(), after=receipt, timeout=30)

    first = await bus.query(ListJobs(limit=2))
    last = await bus.query(ListJobs(limit=2, skip=4))

    assert (first.total, last.total) == (5, 5)
    assert (len(first.items), len(last.items)) == (2, 1)
    seen = [job.posted for job in (*first.items, *last.items)]
    assert seen == sorted(seen, reverse=True)

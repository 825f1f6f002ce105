"""The job board under fire: jobs are posted, revised and archived while people apply for them."""

import asyncio

from bus.testing import World
from handlers.closing import REASON
from read_models.applicant_history import ApplicantHistory
from read_models.applications_by_job import ListApplications
from read_models.job_board import GetJob
from write_models.applications import SubmitApplication
from write_models.jobs import ArchiveJob, PostJob, ReviseJob

JOBS = ["j1", "j2", "j3"]
REVISIONS = 3


async def hire(world: World) -> None:
    """Each job is revised again and again, gets an application, and all but the last are ended."""
    await asyncio.gather(*map(_one_job, [world] * len(JOBS), JOBS))


async def _one_job(world: World, job: str) -> None:
    await world.execute(PostJob(job_id=job, title="Title 1", description="d"))
    for version in range(1, REVISIONS + 1):
        revised = await world.execute(
            ReviseJob(job_id=job, version=version, title=f"Title {version + 1}", description="d"),
            id=f"{job}-{version}",
        )
    await world.execute(
        SubmitApplication(application_id=f"{job}a", job_id=job, applicant=job, letter="Me."),
        after=revised,
    )
    if job != JOBS[-1]:
        await world.execute(ArchiveJob(job_id=job))


async def check(world: World) -> None:
    """Every read model says how it ended, and how often."""
    for job in JOBS:
        ended = job != JOBS[-1]
        view = await world.query(GetJob(job_id=job))
        assert view is not None, f"{world}: no {job}"
        assert (view.title, view.version, view.status, view.applications) == (
            f"Title {REVISIONS + 1}",
            REVISIONS + 1 + ended,
            "archived" if ended else "open",
            1,
        ), str(world)
        applications = await world.query(ListApplications(job_id=job))
        assert [one.status for one in applications.items] == ["closed" if ended else "open"]
        history = await world.query(ApplicantHistory(applicant=job))
        assert [one.reason for one in history.items] == [REASON if ended else None], str(world)
    assert await world.dead_letters() == []

"""Command handlers of jobs."""

from bus import Repository, Router
from write_models.jobs import ArchiveJob, Job, PostJob, ReviseJob

jobs = Router("jobs")


@jobs.command
async def post_job(command: PostJob, repository: Repository[Job]) -> str:
    """Returns the job's id; a repeat with the same command id gets the first one's."""
    job = Job.post(command.job_id, title=command.title, description=command.description)
    repository.add(job)
    return job.id


@jobs.command
async def revise_job(command: ReviseJob, repository: Repository[Job]) -> int:
    """Returns the job's version, which the next revision must name."""
    job = await repository.get(command.job_id)
    job.revise(seen=command.version, title=command.title, description=command.description)
    return job.version


@jobs.command
async def archive_job(command: ArchiveJob, repository: Repository[Job]) -> None:
    job = await repository.get(command.job_id)
    job.archive()

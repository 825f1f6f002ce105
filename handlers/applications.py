"""Command handlers of applications, which know jobs from their own replica."""

from bus import Documents, Repository, Router
from read_models.job_replicas import JobReplica
from write_models.applications import (
    Application,
    CloseApplication,
    JobIsClosed,
    SubmitApplication,
    UnknownJob,
)

applications = Router("applications")


@applications.command
async def submit_application(
    command: SubmitApplication,
    repository: Repository[Application],
    replicas: Documents[JobReplica],
) -> str:
    """Returns the application's id. Raises: UnknownJob, JobIsClosed."""
    job = await replicas.get(command.job_id)
    if job is None:
        raise UnknownJob(command.job_id)
    if job.archived:
        raise JobIsClosed(command.job_id)
    application = Application.submit(
        command.application_id,
        job_id=command.job_id,
        job_title=job.title,
        applicant=command.applicant,
        letter=command.letter,
    )
    repository.add(application)
    return application.id


@applications.command
async def close_application(command: CloseApplication, repository: Repository[Application]) -> None:
    application = await repository.get(command.application_id)
    application.close(command.reason)

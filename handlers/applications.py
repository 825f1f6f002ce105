"""Command handlers of applications, which know jobs from their own replica."""

from bus import Documents, Outbox, Repository, Router
from read_models.job_replicas import JobReplica
from write_models.applications import (
    Application,
    CloseApplication,
    JobIsClosed,
    SubmitApplication,
    UnknownJob,
)
from write_models.interviews import CallOffInterviews

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
async def close_application(
    command: CloseApplication, repository: Repository[Application], outbox: Outbox
) -> None:
    """Whoever was invited need not come: a worker calls that off."""
    application = await repository.get(command.application_id)
    application.close(command.reason)
    if application.invited:
        outbox.send(
            CallOffInterviews(by="application_id", value=application.id, reason=command.reason)
        )

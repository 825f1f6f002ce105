"""Closing: when a job is archived, its open applications are closed (a process manager).

A job may be archived while an application for it is on its way, accepted by a replica that did not
know yet. No lock is needed: each of the two handlers first waits until the read model that the
*other* one reads includes its own event, and only then reads the other's. The second one sees the
first one's event, so no application is missed; if both see each other's, the application is closed
twice, and the second time changes nothing.
"""

from bus import Documents, Envelope, Outbox, Router
from read_models.applications_by_job import ApplicationView
from read_models.job_replicas import JobReplica
from write_models.applications import ApplicationSubmitted, CloseApplication
from write_models.jobs import JobArchived

REASON = "the job was archived"

closing = Router("closing", concurrency=64)


@closing.event
async def close_open_applications(
    event: JobArchived,
    envelope: Envelope,
    replicas: Documents[JobReplica],
    applications: Documents[ApplicationView],
    outbox: Outbox,
) -> None:
    await replicas.including(envelope)
    for application in await applications.find({"job_id": event.job_id, "status": "open"}):
        outbox.send(CloseApplication(application_id=application.id, reason=REASON))


@closing.event
async def close_late_application(
    event: ApplicationSubmitted,
    envelope: Envelope,
    replicas: Documents[JobReplica],
    applications: Documents[ApplicationView],
    outbox: Outbox,
) -> None:
    await applications.including(envelope)
    job = await replicas.get(event.job_id)
    if job is not None and job.archived:
        outbox.send(CloseApplication(application_id=event.application_id, reason=REASON))

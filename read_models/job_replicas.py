"""The applications' own replica of the jobs (event-carried state transfer).

It alone decides whether somebody can apply: there is no call to the jobs, so their outages do not
matter.
"""

from pydantic import BaseModel

from bus import Projection, Update
from write_models.jobs import Job, JobArchived, JobPosted, JobRevised


class JobReplica(BaseModel):
    """What applications need to know about a job, and nothing more."""

    id: str
    title: str
    archived: bool = False


projection = Projection("job_replicas", of=[Job], view=JobReplica)


@projection.on(JobPosted, JobRevised)
def titled(event: JobPosted | JobRevised) -> Update:
    return {"$set": {"title": event.title}}


@projection.on(JobArchived)
def archived(event: JobArchived) -> Update:
    return {"$set": {"archived": True}}

"""How many jobs were posted and archived on each day: what the third service keeps.

It knows the events of jobs, and neither the service that has them nor the way they come.
"""

from collections.abc import Sequence

from pydantic import BaseModel

from bus import Documents, Envelope, Projection, Query, Router, Update
from write_models.jobs import Job, JobArchived, JobPosted


class JobsOfDay(BaseModel):
    """A day on which jobs came or went; its id is written like "2026-03-02"."""

    id: str
    posted: int = 0
    archived: int = 0


projection = Projection("jobs_per_day", of=[Job], view=JobsOfDay)


@projection.on(JobPosted)
def posted(event: JobPosted, envelope: Envelope) -> list[tuple[str, Update]]:
    return [(_day(envelope), {"$inc": {"posted": 1}})]


@projection.on(JobArchived)
def archived(event: JobArchived, envelope: Envelope) -> list[tuple[str, Update]]:
    return [(_day(envelope), {"$inc": {"archived": 1}})]


def _day(envelope: Envelope) -> str:
    return str(envelope.time.date())


queries = Router("jobs_per_day_queries")


class CountJobs(Query[Sequence[JobsOfDay]]):
    """Asks how many jobs came and went, day by day."""


@queries.query
async def count_jobs(query: CountJobs, documents: Documents[JobsOfDay]) -> Sequence[JobsOfDay]:
    return await documents.find({}, sort=[("_id", 1)])

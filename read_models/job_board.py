"""The job board: what people browse, each job with its number of applications.

Two categories feed one document: a job's own events and its applications'. They come in separate
streams, so an application may be projected before its job: the document then has a number but no
job yet, which is why every query here asks for a status.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from bus import Documents, Envelope, Index, Projection, Query, Router, Update
from read_models.paging import Page, Paged
from write_models.applications import Application, ApplicationSubmitted
from write_models.jobs import Job, JobArchived, JobPosted, JobRevised


class JobView(BaseModel):
    """A job as people see it; `version` is what a revision must name."""

    id: str
    title: str
    description: str
    status: Literal["open", "archived"]
    version: int
    posted: datetime
    applications: int = 0


projection = Projection(
    "job_board",
    of=[Job, Application],
    view=JobView,
    partitions=2,
    indexes=[
        Index((("title", "text"), ("description", "text"))),
        Index((("status", 1), ("posted", -1), ("_id", 1))),
    ],
)


@projection.on(JobPosted)
def posted(event: JobPosted, envelope: Envelope) -> Update:
    return {
        "$set": {
            "title": event.title,
            "description": event.description,
            "status": "open",
            "version": envelope.version,
            "posted": envelope.time,
        }
    }


@projection.on(JobRevised)
def revised(event: JobRevised, envelope: Envelope) -> Update:
    return {
        "$set": {
            "title": event.title,
            "description": event.description,
            "version": envelope.version,
        }
    }


@projection.on(JobArchived)
def archived(event: JobArchived, envelope: Envelope) -> Update:
    return {"$set": {"status": "archived", "version": envelope.version}}


@projection.on(ApplicationSubmitted, key=lambda event: event.job_id)
def applied(event: ApplicationSubmitted) -> Update:
    return {"$inc": {"applications": 1}}


queries = Router("job_board_queries")
lists = Router("job_board_lists")
"""Lists the jobs where no search engine does (`job_search`)."""

OPERATORS = str.maketrans('"-', "  ")
"""What MongoDB takes for a phrase, or for a word that must not be there."""


class ListJobs(Paged[JobView]):
    """Asks for the open jobs, newest first; with `text`, those whose title or description mention
    one of its words."""

    text: str = ""


class WatchJobs(ListJobs):
    """Asks the same of MongoDB, which tells when an answer changes. No search engine does."""


class GetJob(Query[JobView | None]):
    """Asks for one job, open or archived."""

    job_id: str


@lists.query
async def list_jobs(query: ListJobs, documents: Documents[JobView]) -> Page[JobView]:
    return await listed(query, documents)


@queries.query
async def watch_jobs(query: WatchJobs, documents: Documents[JobView]) -> Page[JobView]:
    return await listed(query, documents)


async def listed(query: ListJobs, documents: Documents[JobView]) -> Page[JobView]:
    """Returns the jobs that documents, and MongoDB's index of their words, find."""
    found: dict[str, Any] = {"status": "open"}
    if query.text:
        found["$text"] = {"$search": query.text.translate(OPERATORS)}
    return Page(
        total=await documents.count(found),
        items=await documents.find(
            found, sort=[("posted", -1), ("_id", 1)], skip=query.skip, limit=query.limit
        ),
    )


@queries.query
async def get_job(query: GetJob, documents: Documents[JobView]) -> JobView | None:
    found = await documents.find({"_id": query.job_id, "status": {"$exists": True}})
    return found[0] if found else None

"""Applications by job: what an administrator sees of the applicants."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from bus import Documents, Envelope, Index, Projection, Router, Update
from read_models.paging import Page, Paged
from write_models.applications import Application, ApplicationClosed, ApplicationSubmitted


class ApplicationView(BaseModel):
    """An application as the administrator sees it."""

    id: str
    job_id: str
    applicant: str
    letter: str
    status: Literal["open", "closed"]
    submitted: datetime


projection = Projection(
    "applications_by_job",
    of=[Application],
    view=ApplicationView,
    indexes=[Index((("job_id", 1), ("submitted", 1), ("_id", 1)))],
)


@projection.on(ApplicationSubmitted)
def submitted(event: ApplicationSubmitted, envelope: Envelope) -> Update:
    return {
        "$set": {
            "job_id": event.job_id,
            "applicant": event.applicant,
            "letter": event.letter,
            "status": "open",
            "submitted": envelope.time,
        }
    }


@projection.on(ApplicationClosed)
def closed(event: ApplicationClosed) -> Update:
    return {"$set": {"status": "closed"}}


queries = Router("applications_by_job_queries")


class ListApplications(Paged[ApplicationView]):
    """Asks for the applications for one job, oldest first."""

    job_id: str


@queries.query
async def list_applications(
    query: ListApplications, documents: Documents[ApplicationView]
) -> Page[ApplicationView]:
    found = {"job_id": query.job_id}
    return Page(
        total=await documents.count(found),
        items=await documents.find(
            found, sort=[("submitted", 1), ("_id", 1)], skip=query.skip, limit=query.limit
        ),
    )

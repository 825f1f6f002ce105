"""Applicant history: what a person has applied for, and with what outcome.

It has the same events as `applications_by_job`, shaped for another reader: this is what a separate
read model is for. Each application is one document, so that a long history comes in pages.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from bus import Documents, Envelope, Index, Projection, Router, Update
from read_models.paging import Page, Paged
from write_models.applications import Application, ApplicationClosed, ApplicationSubmitted


class HistoryEntry(BaseModel):
    """An application as the applicant sees it; `reason` says why it was closed."""

    id: str
    applicant: str
    job_id: str
    job_title: str
    status: Literal["open", "closed"]
    submitted: datetime
    closed: datetime | None = None
    reason: str | None = None


projection = Projection(
    "applicant_history",
    of=[Application],
    view=HistoryEntry,
    indexes=[Index((("applicant", 1), ("submitted", -1), ("_id", 1)))],
)


@projection.on(ApplicationSubmitted)
def submitted(event: ApplicationSubmitted, envelope: Envelope) -> Update:
    return {
        "$set": {
            "applicant": event.applicant,
            "job_id": event.job_id,
            "job_title": event.job_title,
            "status": "open",
            "submitted": envelope.time,
        }
    }


@projection.on(ApplicationClosed)
def closed(event: ApplicationClosed, envelope: Envelope) -> Update:
    return {"$set": {"status": "closed", "closed": envelope.time, "reason": event.reason}}


queries = Router("applicant_history_queries")


class ApplicantHistory(Paged[HistoryEntry]):
    """One applicant's applications, newest first."""

    applicant: str


@queries.query
async def history(
    query: ApplicantHistory, documents: Documents[HistoryEntry]
) -> Page[HistoryEntry]:
    found = {"applicant": query.applicant}
    return Page(
        total=await documents.count(found),
        items=await documents.find(
            found, sort=[("submitted", -1), ("_id", 1)], skip=query.skip, limit=query.limit
        ),
    )

"""Tables for analysts, who join them with their own: applications by job and day, and when jobs
were open. Imported only if there is a database for them.
"""

from datetime import date, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from bus import Envelope, Increment, Projection, Router, Upsert
from bus.stores.sql import SqlTable
from read_models import stores
from read_models.analysis import AnalyseJob, Day, JobAnalysis
from write_models.applications import Application, ApplicationSubmitted
from write_models.jobs import Job, JobArchived, JobPosted

metadata = sa.MetaData()


def url() -> str:
    """Returns the URL of the tables' database, which is read each time a bus opens."""
    return stores.url(stores.ANALYSIS)


per_day = Projection(
    "applications_per_day",
    of=[Application],
    sink=SqlTable(
        sa.Table(
            "applications_per_day",
            metadata,
            sa.Column("job_id", sa.String(100), primary_key=True),
            sa.Column("day", sa.Date, primary_key=True),
            sa.Column("applications", sa.Integer, nullable=False, default=0),
        ),
        url=url,
    ),
)


@per_day.on(ApplicationSubmitted)
def applied(
    event: ApplicationSubmitted, envelope: Envelope
) -> list[tuple[tuple[str, date], Increment]]:
    return [((event.job_id, envelope.time.date()), Increment(applications=1))]


jobs_open = Projection(
    "jobs_open",
    of=[Job],
    sink=SqlTable(
        sa.Table(
            "jobs_open",
            metadata,
            sa.Column("job_id", sa.String(100), primary_key=True),
            sa.Column("title", sa.String(200)),
            sa.Column("posted", sa.DateTime(timezone=True)),
            sa.Column("archived", sa.DateTime(timezone=True)),
            sa.Index("jobs_open_posted", "posted"),
        ),
        url=url,
    ),
)


@jobs_open.on(JobPosted)
def posted(event: JobPosted, envelope: Envelope) -> Upsert:
    return Upsert(title=event.title, posted=envelope.time)


@jobs_open.on(JobArchived)
def archived(event: JobArchived, envelope: Envelope) -> Upsert:
    return Upsert(archived=envelope.time)


queries = Router("analysis_queries")


@queries.query
async def analyse_job(
    query: AnalyseJob,
    session: Annotated[AsyncSession, jobs_open],
    jobs: Annotated[sa.Table, jobs_open],
    days: Annotated[sa.Table, per_day],
) -> JobAnalysis | None:
    """Reads both tables in one session, because both are in one database."""
    asked = sa.select(jobs).where(jobs.c.job_id == query.job_id)
    job = (await session.execute(asked)).one_or_none()
    if job is None:
        return None
    found = sa.select(days.c.day, days.c.applications).where(days.c.job_id == query.job_id)
    rows = await session.execute(found.order_by(days.c.day))
    return JobAnalysis(
        job_id=job.job_id,
        title=job.title,
        days=[Day(day=row.day, applications=row.applications) for row in rows],
        open_for=_between(job.posted, job.archived),
    )


def _between(posted: datetime, archived: datetime | None) -> timedelta | None:
    return archived - posted if archived else None

"""What became of a job: who applied when, and how long it was open.

It is read from tables for analysts, which are in a SQL database (`analysis_tables`) where
`JOBBOARD_ANALYSIS_URL` names one.
"""

from datetime import date, timedelta

from pydantic import BaseModel

from bus import Query


class Day(BaseModel):
    """A day on which people applied."""

    day: date
    applications: int


class JobAnalysis(BaseModel):
    """What became of a job; `open_for` is None while it is open."""

    job_id: str
    title: str
    days: list[Day]
    open_for: timedelta | None


class AnalyseJob(Query[JobAnalysis | None]):
    """Asks what became of a job."""

    job_id: str

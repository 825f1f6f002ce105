"""The composition root of applications as a service of their own: it follows the jobs."""

from typing import Any

from bus import Bus, Projection, Settings
from handlers import services
from handlers.applications import applications
from handlers.closing import closing
from read_models import applicant_history, applications_by_job, job_replicas
from write_models.jobs import Job

ROUTERS = [applications, closing, applications_by_job.queries, applicant_history.queries]
PROJECTIONS: list[Projection[Any]] = [
    job_replicas.projection,
    applications_by_job.projection,
    applicant_history.projection,
]


def build(settings: Settings) -> Bus:
    """The bus of the applications, not opened yet. What they know of jobs, the jobs tell."""
    return Bus(
        services.applications(),
        routers=ROUTERS,
        projections=PROJECTIONS,
        foreign={Job.category: services.jobs()},
        settings=settings,
    )

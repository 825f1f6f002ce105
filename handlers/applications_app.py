"""The composition root of applications as a separate service, which follows the jobs."""

from bus import Bus, Settings
from handlers import services
from handlers.applications import applications
from handlers.closing import closing
from read_models import applicant_history, applications_by_job, job_replicas
from write_models.jobs import Job

ROUTERS = [applications, closing, applications_by_job.queries, applicant_history.queries]
PROJECTIONS = [
    job_replicas.projection,
    applications_by_job.projection,
    applicant_history.projection,
]


def build(settings: Settings) -> Bus:
    """Returns the bus of the applications, not opened yet; it learns of jobs from their events."""
    return Bus(
        services.applications(),
        routers=ROUTERS,
        projections=PROJECTIONS,
        foreign={Job.category: services.jobs()},
        settings=settings,
    )

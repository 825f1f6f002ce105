"""The composition root of applications as a separate service, which follows the jobs."""

from bus import Bus, Router, Settings
from handlers import services
from handlers.applications import applications
from handlers.closing import closing
from read_models import applicant_history, applications_by_job, job_replicas
from write_models.jobs import Job

PROJECTIONS = [
    job_replicas.projection,
    applications_by_job.projection,
    applicant_history.projection,
]


def routers(settings: Settings) -> list[Router]:
    """Returns the routers. Rooms are booked in the database that has the log, because both are one
    transaction: in documents, or with `BUS_LOG_URL` in a table."""
    if settings.log_url:
        from handlers.rooms_in_sql import interviews  # needs SQLAlchemy, and nothing else does
    else:
        from handlers.rooms_in_mongodb import interviews
    queries = [applications_by_job.queries, applicant_history.queries]
    return [applications, closing, interviews, *queries]


def build(settings: Settings) -> Bus:
    """Returns the bus of the applications, not opened yet; it learns of jobs from their events."""
    return Bus(
        services.applications(),
        routers=routers(settings),
        projections=PROJECTIONS,
        foreign={Job.category: services.jobs()},
        settings=settings,
    )

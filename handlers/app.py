"""The composition root: the one place where the service is put together."""

import os

from bus import Bus, Settings
from handlers.applications import applications
from handlers.closing import closing
from handlers.jobs import jobs
from read_models import applicant_history, applications_by_job, job_board, job_replicas

SERVICE = "jobboard"


def build(settings: Settings, service: str = "") -> Bus:
    """The job board's bus, not opened yet.

    `service` names its queues and its database. By default it is "jobboard", or what the
    environment variable `JOBBOARD_SERVICE` says, so that several can share one broker.
    """
    return Bus(
        service or os.environ.get("JOBBOARD_SERVICE") or SERVICE,
        routers=[
            jobs,
            applications,
            closing,
            job_board.queries,
            applications_by_job.queries,
            applicant_history.queries,
        ],
        projections=[
            job_board.projection,
            job_replicas.projection,
            applications_by_job.projection,
            applicant_history.projection,
        ],
        settings=settings,
    )

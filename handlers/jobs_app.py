"""The composition root of jobs as a separate service, which follows the applications."""

from bus import Bus, Settings
from handlers import services
from handlers.jobs import jobs
from read_models import job_board
from write_models.applications import Application

ROUTERS = [jobs, job_board.queries]
PROJECTIONS = [job_board.projection]


def build(settings: Settings) -> Bus:
    """Returns the bus of the jobs, not opened yet; it counts applications from their events."""
    return Bus(
        services.jobs(),
        routers=ROUTERS,
        projections=PROJECTIONS,
        foreign={Application.category: services.applications()},
        settings=settings,
    )

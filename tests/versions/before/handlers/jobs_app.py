"""The composition root of jobs as a service of their own: it follows the applications."""

from typing import Any

from bus import Bus, Projection, Settings
from handlers import services
from handlers.jobs import jobs
from read_models import job_board
from write_models.applications import Application

ROUTERS = [jobs, job_board.queries]
PROJECTIONS: list[Projection[Any]] = [job_board.projection]


def build(settings: Settings) -> Bus:
    """The bus of the jobs, not opened yet. How many applied is told by the applications."""
    return Bus(
        services.jobs(),
        routers=ROUTERS,
        projections=PROJECTIONS,
        foreign={Application.category: services.applications()},
        settings=settings,
    )

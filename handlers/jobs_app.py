"""The composition root of jobs as a separate service, which follows the applications."""

from typing import Any

from bus import Bus, Projection, Router, Settings
from handlers import services
from handlers.jobs import jobs
from read_models import analysis, job_board
from write_models.applications import Application


def routers() -> list[Router]:
    """Returns the routers."""
    return [jobs, job_board.queries, *_analysis()[0]]


def projections() -> list[Projection[Any]]:
    """Returns the projections; those of analysts only if they have a database."""
    return [job_board.projection, *_analysis()[1]]


def build(settings: Settings) -> Bus:
    """Returns the bus of the jobs, not opened yet; it counts applications from their events."""
    return Bus(
        services.jobs(),
        routers=routers(),
        projections=projections(),
        foreign={Application.category: services.applications()},
        settings=settings,
    )


def _analysis() -> tuple[list[Router], list[Projection[Any]]]:
    if not analysis.url():
        return [], []
    from read_models import analysis_tables as tables  # needs SQLAlchemy, and nothing else does

    return [tables.queries], [tables.per_day, tables.jobs_open]

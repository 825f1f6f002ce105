"""The composition root of jobs as a separate service, which follows the applications.

What is kept in other stores than MongoDB is imported only where the environment names such a store,
because nothing else needs its library.
"""

from typing import Any

from bus import Bus, Projection, Router, Settings
from handlers import services
from handlers.jobs import jobs
from read_models import job_board, stores
from write_models.applications import Application

Projections = list[Projection[Any]]


def routers() -> list[Router]:
    """Returns the routers."""
    return [jobs, job_board.queries, _lists(), *_analysis()[0]]


def projections(service: str = "") -> Projections:
    """Returns the projections of the service that has the jobs, by default the separate one."""
    name = service or services.jobs()
    return [job_board.projection, *_search(name), *_analysis()[1], *_events(name)]


def build(settings: Settings) -> Bus:
    """Returns the bus of the jobs, not opened yet; it counts applications from their events."""
    return Bus(
        services.jobs(),
        routers=routers(),
        projections=projections(),
        foreign={Application.category: services.applications()},
        settings=settings,
    )


def _lists() -> Router:
    if not stores.url(stores.SEARCH):
        return job_board.lists
    from read_models import job_search

    return job_search.queries


def _search(service: str) -> Projections:
    if not (url := stores.url(stores.SEARCH)):
        return []
    from read_models import job_search

    return [job_search.projection(url, service)]


def _analysis() -> tuple[list[Router], Projections]:
    if not stores.url(stores.ANALYSIS):
        return [], []
    from read_models import analysis_tables as tables

    return [tables.queries], [tables.per_day, tables.jobs_open]


def _events(service: str) -> Projections:
    if not (url := stores.url(stores.EVENTS)):
        return []
    from read_models import job_events

    return [job_events.projection(url, service)]

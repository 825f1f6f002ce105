"""The composition root: the one place where the service is put together.

Jobs and applications run as one service here; `jobs_app` and `applications_app` build two services
from the same parts. `statistics_app` is another one, which is fed from Kafka.
"""

from bus import Bus, Settings
from handlers import applications_app, jobs_app, services


def build(settings: Settings, service: str = "") -> Bus:
    """Returns the job board's bus, not opened yet.

    `service` names its queues and its database. By default it is "jobboard", or the value of the
    environment variable `JOBBOARD_SERVICE`, so that several can share one broker.
    """
    name = service or services.job_board()
    return Bus(
        name,
        routers=[*jobs_app.routers(), *applications_app.routers(settings)],
        projections=[*jobs_app.projections(name), *applications_app.PROJECTIONS],
        settings=settings,
    )

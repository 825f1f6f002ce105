"""The composition root of the statistics, a third service: it counts jobs by their events in Kafka.

It knows nothing of RabbitMQ, and has a database of its own in MongoDB:

    BUS_AMQP_URL=memory:// BUS_MONGO_DB=statistics bus worker handlers.statistics_app:build
    BUS_AMQP_URL=memory:// BUS_MONGO_DB=statistics python -m handlers.statistics_app

The second line prints what it has counted.
"""

import asyncio
import sys

from bus import Bus, BusError, ConfigurationError, Settings, log
from handlers import services
from read_models import jobs_per_day, stores
from read_models.jobs_per_day import CountJobs
from write_models.jobs import Job


def build(settings: Settings) -> Bus:
    """Returns the bus of the statistics, not opened yet. Raises: ConfigurationError.

    It counts the jobs of the service "jobs", or of that which `JOBS_SERVICE` names: "jobboard"
    where jobs and applications are one.
    """
    url = stores.url(stores.EVENTS)
    if not url:
        raise ConfigurationError(
            f"the statistics are fed from Kafka: set {stores.EVENTS}, as for the service that has "
            f"the jobs"
        )
    from read_models import job_events  # needs aiokafka

    return Bus(
        services.statistics(),
        routers=[jobs_per_day.queries],
        projections=[jobs_per_day.projection],
        foreign={Job.category: job_events.feed(url, services.jobs())},
        settings=settings,
    )


async def show(settings: Settings) -> None:
    """Prints a line for each day."""
    async with build(settings) as bus:
        for one in await bus.query(CountJobs()):
            sys.stdout.write(f"{one.id}  {one.posted:,} posted, {one.archived:,} archived\n")


def main() -> None:
    log.configure()
    try:
        asyncio.run(show(Settings()))
    except BusError as error:  # it may be that history is still being read
        sys.exit(f"statistics: {error}")


if __name__ == "__main__":
    main()

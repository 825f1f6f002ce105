"""All events of jobs in a topic of Kafka's, for whoever reads from there.

Imported only where `JOBBOARD_EVENTS_URL` names Kafka. Of this repository, `jobs_per_day` reads it,
in a service of its own.
"""

from typing import Any

from bus import Projection
from bus.kafka import KafkaFeed, KafkaTopic
from write_models.jobs import Job


def projection(url: str, service: str) -> Projection[Any]:
    """Returns the projection that sends the events of a service's jobs."""
    return Projection("job_events", of=[Job], sink=KafkaTopic(topic(service), url=url))


def feed(url: str, service: str) -> KafkaFeed:
    """Returns what another service is fed from; `service` is the one that sends."""
    return KafkaFeed(service, topic=topic(service), url=url)


def topic(service: str) -> str:
    """Returns the topic's name."""
    return f"{service}-job-events"

"""The service that is fed from Kafka, and knows nothing of RabbitMQ: the same rows, as documents.

Its two workers share the topic's partitions; what is in their queues dies with them.
"""

from pydantic import BaseModel

from bus import Bus, Delete, Projection, Settings, Update
from bus.kafka import KafkaFeed
from tools.soak.plan import SERVICE
from tools.soak.service import MoneyCame, Purse
from tools.soak.sinks.plan import AMOUNTS, FED, JOBS, KAFKA, TOPIC
from tools.soak.sinks.projections import told
from write_models.jobs import Job, JobArchived, JobPosted, JobRevised


class JobView(BaseModel):
    title: str
    revisions: int


class AmountView(BaseModel):
    times: int
    total: int


jobs = Projection(JOBS, of=[Job], view=JobView)
amounts = Projection(AMOUNTS, of=[Purse], view=AmountView)


@jobs.on(JobPosted)
def posted(event: JobPosted) -> Update:
    return {"$set": {"title": event.title, "revisions": 0}}


@jobs.on(JobRevised)
def revised(event: JobRevised) -> Update:
    return {"$set": {"title": event.title}, "$inc": {"revisions": 1}}


@jobs.on(JobArchived)
def archived(event: JobArchived) -> Delete:
    return Delete()


@amounts.on(MoneyCame, key=lambda event: str(event.amount))
def came(event: MoneyCame) -> Update:
    return {"$inc": {"times": 1, "total": event.amount}}


def build(settings: Settings) -> Bus:
    feed = KafkaFeed(SERVICE, topic=TOPIC, url=told()[KAFKA])
    owners = {Job.category: feed, Purse.category: feed}
    return Bus(FED, projections=[jobs, amounts], foreign=owners, settings=settings)

"""The projections of the soak's service that are kept elsewhere: the same in each store."""

import json
import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from bus import Increment, Projection, Remove, Upsert
from bus.kafka import KafkaTopic
from bus.stores.search import SearchIndex
from bus.stores.sink import Sink
from bus.stores.sql import SqlTable
from tools.soak.service import MoneyCame, Purse
from tools.soak.sinks.plan import AMOUNTS, JOBS, KAFKA, SEARCH, SENT, TOPIC, URLS, name_in
from write_models.applications import Application
from write_models.jobs import Job, JobArchived, JobPosted, JobRevised

PARTITIONS = 3
MAPPINGS: Mapping[str, Mapping[str, Any]] = {
    JOBS: {"properties": {"title": {"type": "text"}, "revisions": {"type": "long"}}},
    AMOUNTS: {"properties": {"times": {"type": "long"}, "total": {"type": "long"}}},
}
INDEX_SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0}


def posted(event: JobPosted) -> Upsert:
    return Upsert(title=event.title, revisions=0)


def revised(event: JobRevised) -> list[Upsert | Increment]:
    return [Upsert(title=event.title), Increment(revisions=1)]


def archived(event: JobArchived) -> Remove:
    return Remove()


def came(event: MoneyCame) -> Increment:
    return Increment(times=1, total=event.amount)


def told() -> Mapping[str, str]:
    """The stores that the environment names, with their URLs."""
    found: Mapping[str, str] = json.loads(os.environ.get(URLS) or "{}")
    return found


def projections(urls: Mapping[str, str]) -> list[Projection[Any]]:
    """Two for each table's or index's store, and one that sends all events to Kafka."""
    found: list[Projection[Any]] = []
    for store, url in urls.items():
        if store == KAFKA:
            found.append(_sent(url))
        else:
            found += [_jobs_in(store, url), _amounts_in(store, url)]
    return found


def _jobs_in(store: str, url: str) -> Projection[Any]:
    projection: Projection[Any] = Projection(
        name_in(store, JOBS), of=[Job], sink=_sink(store, JOBS, url), partitions=2
    )
    projection.on(JobPosted)(posted)
    projection.on(JobRevised)(revised)
    projection.on(JobArchived)(archived)
    return projection


def _amounts_in(store: str, url: str) -> Projection[Any]:
    name = name_in(store, AMOUNTS)
    projection: Projection[Any] = Projection(
        name, of=[Purse], sink=_sink(store, AMOUNTS, url), partitions=2
    )
    projection.on(MoneyCame, key=lambda event: str(event.amount))(came)
    return projection


def declared(url: str) -> KafkaTopic:
    """The topic of all events."""
    return KafkaTopic(TOPIC, url=url, partitions=PARTITIONS)


def _sent(url: str) -> Projection[Any]:
    return Projection(SENT, of=[Job, Application, Purse], sink=declared(url), partitions=2)


def _sink(store: str, what: str, url: str) -> Sink:
    if store in SEARCH:
        return SearchIndex(url=url, mappings=MAPPINGS[what], settings=INDEX_SETTINGS)
    return SqlTable(_table(store, what), url=url)


def _table(store: str, what: str) -> sa.Table:
    number = sa.BigInteger
    columns: dict[str, list[sa.Column[Any]]] = {
        JOBS: [sa.Column("title", sa.String(200)), sa.Column("revisions", number)],
        AMOUNTS: [
            sa.Column("times", number, nullable=False, default=0),
            sa.Column("total", number, nullable=False, default=0),
        ],
    }
    key = sa.Column("id", sa.String(100), primary_key=True)
    return sa.Table(name_in(store, what), sa.MetaData(), key, *columns[what])

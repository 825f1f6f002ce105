"""A service whose jobs are searched in an index; towns are counted in another one, where many
streams feed each document."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from opensearchpy import AsyncOpenSearch
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Increment,
    Projection,
    Query,
    Receipt,
    Remove,
    Repository,
    Router,
    Settings,
    Update,
    Upsert,
)
from bus.stores.search import ActiveIndex, SearchIndex

JOBS: Mapping[str, Any] = {
    "properties": {
        "title": {"type": "text"},
        "town": {"type": "keyword"},
        "pay": {"type": "integer"},
        "text": {"type": "text", "analyzer": "job_text"},
    }
}
SETTINGS: Mapping[str, Any] = {
    "number_of_replicas": 0,
    "analysis": {
        "analyzer": {
            "job_text": {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "no"]}
        },
        "filter": {"no": {"type": "stop", "stopwords": ["wanted"]}},
    },
}
TOWNS: Mapping[str, Any] = {"properties": {"jobs": {"type": "long"}, "closed": {"type": "long"}}}


class Post(Command):
    job_id: str
    title: str = "baker"
    town: str = "Bern"
    pay: str = "100"


class Retitle(Command):
    job_id: str
    title: str


class Close(Command):
    job_id: str


class Posted(Event):
    title: str
    town: str
    pay: str


class Retitled(Event):
    title: str


class Closed(Event):
    town: str


class Job(Aggregate, events=[Posted, Retitled, Closed]):
    town: str = ""

    def apply(self, event: Event) -> None:
        if isinstance(event, Posted):
            self.town = event.town


class JobView(BaseModel):
    id: str
    title: str


class FindJobs(Query[dict[str, str]]):
    """Titles by id, of the jobs with a word in their titles."""

    word: str


class CountTowns(Query[dict[str, int]]):
    """The number of open jobs in each town."""


class GetTitle(Query[str]):
    job_id: str


def service(
    settings: Settings,
    name: str,
    url: str,
    *,
    version: int = 1,
    partitions: int = 1,
    tolerant: bool = False,
    among_documents: bool = False,
    without_search: bool = False,
) -> Bus:
    """Version 2 writes titles in capitals. Pay that is no number is refused by the index, unless
    the service is `tolerant`. With `among_documents` the jobs are kept by MongoDB."""
    router, queries = Router("jobs"), Router("looking")

    @router.command
    async def post(command: Post, jobs: Repository[Job]) -> None:
        job = Job(command.job_id)
        job.record(Posted(title=command.title, town=command.town, pay=command.pay))
        jobs.add(job)

    @router.command
    async def retitle(command: Retitle, jobs: Repository[Job]) -> None:
        (await jobs.get(command.job_id)).record(Retitled(title=command.title))

    @router.command
    async def close(command: Close, jobs: Repository[Job]) -> None:
        job = await jobs.get(command.job_id)
        job.record(Closed(town=job.town))

    if without_search:
        return Bus(name, routers=[router], settings=settings)
    if among_documents:
        documents, looking = _documents()
        return Bus(name, routers=[router, looking], projections=[documents], settings=settings)

    def written(title: str) -> str:
        return title if version == 1 else title.upper()

    job_search: Projection[Any] = Projection(
        "job_search",
        of=[Job],
        sink=SearchIndex(url=url, mappings=JOBS, settings=SETTINGS, prefix=name),
        version=version,
        partitions=partitions,
    )
    towns: Projection[Any] = Projection(
        "towns",
        of=[Job],
        sink=SearchIndex(url=url, mappings=TOWNS, settings={"number_of_replicas": 0}, prefix=name),
        version=version,
        partitions=partitions,
    )

    @job_search.on(Posted)
    def posted(event: Posted) -> Upsert:
        is_number = event.pay.isdigit() or not tolerant
        pay = {"pay": event.pay} if is_number else {}
        return Upsert(title=written(event.title), town=event.town, text=event.title, **pay)

    @job_search.on(Retitled)
    def retitled(event: Retitled) -> Upsert:
        return Upsert(title=written(event.title))

    @job_search.on(Closed)
    def closed(event: Closed) -> Remove:
        return Remove()

    @towns.on(Posted, key=lambda event: event.town)
    def opened_in(event: Posted) -> Increment:
        return Increment(jobs=1)

    @towns.on(Closed, key=lambda event: event.town)
    def closed_in(event: Closed) -> Increment:
        return Increment(jobs=-1, closed=1)

    @queries.query
    async def find(
        query: FindJobs,
        client: Annotated[AsyncOpenSearch, job_search],
        index: Annotated[ActiveIndex, job_search],
    ) -> dict[str, str]:
        body = {"query": {"match": {"title": query.word}}, "size": 10_000}
        hits = (await client.search(index=index, body=body))["hits"]["hits"]
        return {hit["_id"]: hit["_source"]["title"] for hit in hits}

    @queries.query
    async def count(
        query: CountTowns,
        client: Annotated[AsyncOpenSearch, towns],
        index: Annotated[ActiveIndex, towns],
    ) -> dict[str, int]:
        hits = (await client.search(index=index, body={"size": 10_000}))["hits"]["hits"]
        return {hit["_id"]: hit["_source"]["jobs"] for hit in hits}

    return Bus(name, routers=[router, queries], projections=[job_search, towns], settings=settings)


def _documents() -> tuple[Projection[JobView], Router]:
    documents = Projection("job_search", of=[Job], view=JobView)
    looking = Router("looking")

    @documents.on(Posted, Retitled)
    def titled(event: Posted | Retitled) -> Update:
        return {"$set": {"title": event.title}}

    @looking.query
    async def get(query: GetTitle, documents: Documents[JobView]) -> str:
        found = await documents.get(query.job_id)
        return found.title if found else ""

    return documents, looking


async def post(bus: Bus, ids: Sequence[str], **fields: str) -> Receipt:
    """Posts jobs; returns the receipt of the last."""
    done = await asyncio.gather(*(bus.execute(Post(job_id=id, **fields)) for id in ids))
    return done[-1]

"""The text of jobs in a search engine, which then finds jobs in place of MongoDB's text index.

Imported only where `JOBBOARD_SEARCH_URL` names OpenSearch or Elasticsearch. Its documents are those
of the job board: jobs and applications feed them, and a page comes from one place as a whole.
"""

from typing import Any

from opensearchpy import AsyncOpenSearch

from bus import Documents, Envelope, Increment, Projection, Router, Upsert
from bus.stores.search import ActiveIndex, SearchIndex
from read_models.job_board import JobView, ListJobs, listed
from read_models.paging import Page
from write_models.applications import Application, ApplicationSubmitted
from write_models.jobs import Job, JobArchived, JobPosted, JobRevised

TEXTS = ("title", "description")
MAPPINGS = {
    "properties": {
        **{name: {"type": "text", "analyzer": "of_jobs"} for name in TEXTS},
        "id": {"type": "keyword"},
        "status": {"type": "keyword"},
        "version": {"type": "long"},
        "posted": {"type": "date"},
        "applications": {"type": "long"},
    }
}
SETTINGS = {
    # As many as a page's `skip` and `limit` reach.
    "max_result_window": 1_000_100,
    "analysis": {"analyzer": {"of_jobs": {"type": "standard", "stopwords": "_english_"}}},
}


def projection(url: str, service: str) -> Projection[Any]:
    """Returns the projection into the indices of a service."""
    jobs: Projection[Any] = Projection(
        "job_search",
        of=[Job, Application],
        sink=SearchIndex(url=url, mappings=MAPPINGS, settings=SETTINGS, prefix=f"{service}-"),
        partitions=2,
    )
    jobs.on(JobPosted)(posted)
    jobs.on(JobRevised)(revised)
    jobs.on(JobArchived)(archived)
    jobs.on(ApplicationSubmitted, key=lambda event: event.job_id)(applied)
    return jobs


def posted(event: JobPosted, envelope: Envelope) -> Upsert:
    return Upsert(
        id=event.job_id,
        title=event.title,
        description=event.description,
        status="open",
        version=envelope.version,
        posted=envelope.time,
    )


def revised(event: JobRevised, envelope: Envelope) -> Upsert:
    return Upsert(title=event.title, description=event.description, version=envelope.version)


def archived(event: JobArchived, envelope: Envelope) -> Upsert:
    return Upsert(status="archived", version=envelope.version)


def applied(event: ApplicationSubmitted) -> Increment:
    return Increment(applications=1)


queries = Router("job_search_queries")


@queries.query
async def list_jobs(
    query: ListJobs, documents: Documents[JobView], client: AsyncOpenSearch, index: ActiveIndex
) -> Page[JobView]:
    """Asks the engine if words are to be found, and documents as ever if none are."""
    if not query.text:
        return await listed(query, documents)
    found = await client.search(index=index, body=_search(query), _source_excludes="_bus")
    hits = found["hits"]
    return Page(
        total=hits["total"]["value"],
        items=[JobView.model_validate(hit["_source"]) for hit in hits["hits"]],
    )


def _search(query: ListJobs) -> dict[str, Any]:
    mentioned = {"multi_match": {"query": query.text, "fields": TEXTS}}
    return {
        "query": {"bool": {"must": mentioned, "filter": {"term": {"status": "open"}}}},
        "sort": [{"posted": "desc"}, {"id": "asc"}],
        "from": query.skip,
        "size": query.limit,
        "track_total_hits": True,
    }

"""The service whose events are projected into an index, and how that ought to be in the end."""

import os

from bench import side
from bench.projecting.backlog import Backlog
from bench.projecting.race import WITHIN
from bench.projecting.service import kept_by
from bench.side import Arguments
from bus import Bus, Settings
from bus.stores.search import SearchIndex
from tools.services.errors import CommandFailed
from tools.services.jars import search

MAPPINGS = {
    "properties": {
        "events": {"type": "integer"},
        "owner": {"type": "keyword"},
        "note": {"type": "text"},
    }
}
SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0}


def url_of(arguments: Arguments) -> str:
    return os.environ[f"BENCH_{arguments['engine'].upper()}_URL"]


def build(arguments: Arguments) -> Bus:
    """As `bench/projecting` has it, in an index."""
    sink = SearchIndex(
        url=url_of(arguments),
        mappings=MAPPINGS,
        settings=SETTINGS,
        prefix=f"{arguments['service']}-",
    )
    views = kept_by(sink, arguments["kind"])
    projections = [] if arguments.get("without_views") else [views]
    return Bus(arguments["service"], projections=projections, settings=Settings())


async def until_documents_are(arguments: Arguments, backlog: Backlog, index: str) -> None:
    """Waits until all documents of an index are as the backlog makes them. It asks at short
    intervals whether the last one is, by its id, and only then has the index refreshed."""
    url = url_of(arguments)
    last = backlog.last_of(0, 1)

    async def last_is() -> bool:
        try:
            found = search.call(url, "GET", f"/{index}/_doc/{last}")
        except CommandFailed:  # not there yet
            return False
        return bool(found["_source"]["events"] == backlog.of_a_document)

    async def all_are() -> bool:
        search.call(url, "POST", f"/{index}/_refresh")
        query = {"query": {"term": {"events": backlog.of_a_document}}}
        found = search.call(url, "POST", f"/{index}/_count", query)
        return bool(found["count"] == backlog.documents)

    await side.until(last_is, "the end of the queue is not projected", WITHIN)
    await side.until(all_are, "documents are not as the backlog makes them", WITHIN)

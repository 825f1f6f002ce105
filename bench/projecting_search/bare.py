"""A consumer written by hand over the engine's client: decodes (pydantic), stores, acknowledges.

What has arrived is stored by one bulk request of up to 1000, refreshed by the engine alone, once in
a second, and acknowledged by one frame. No versions: what comes twice is counted twice, what comes
late overwrites what is newer, what is missing stays missing, a message that cannot be read or a
document that is refused ends it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from opensearchpy import AsyncOpenSearch

from bench import side
from bench.projecting import bare as consumer
from bench.projecting_search.service import MAPPINGS, SETTINGS, until_documents_are, url_of
from bench.projecting_sql import bare
from bench.projecting_sql.bare import Row
from tools.services.jars import search

Lines = list[Mapping[str, Any]]
Store = Callable[[AsyncOpenSearch, str, Sequence[Row]], Awaitable[None]]


async def put(client: AsyncOpenSearch, index: str, lines: Lines) -> None:
    """Sends one bulk request, and looks whether all of it was stored."""
    answer = await client.bulk(body=lines, index=index)
    if answer["errors"]:
        raise SystemExit(f"{answer}"[:500])


def index_of(arguments: side.Arguments) -> str:
    return f"{arguments['service']}-bare"


async def work(store: Store, arguments: side.Arguments) -> None:
    @asynccontextmanager
    async def storing(arguments: side.Arguments) -> AsyncIterator[bare.Upsert]:
        async with AsyncOpenSearch(hosts=[url_of(arguments)], timeout=60) as client:
            await client.info()
            yield partial(store, client, index_of(arguments))

    await bare.work(storing, arguments)


async def drive(arguments: side.Arguments) -> side.Metrics:
    index = index_of(arguments)
    body = {"mappings": {"dynamic": "strict", **MAPPINGS}, "settings": SETTINGS}
    search.call(url_of(arguments), "PUT", f"/{index}", body)
    found = await consumer.drive(arguments, projected=partial(until_documents_are, index=index))
    search.call(url_of(arguments), "DELETE", f"/{index}")
    return found


def run(store: Store) -> None:
    """The main function of each script."""
    side.run(drive, worker=partial(work, store))

"""An index of a search engine keeps the contract of sinks, and what it promises besides."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from bus.stores.search import SearchIndex
from bus.stores.search.place import SearchPlace
from bus.stores.sink import Place, Sink
from bus.testing.contracts.sink_contract import Rows, SinkContract

MAPPINGS = {
    "properties": {
        "title": {"type": "keyword"},
        "count": {"type": "long"},
        "text": {"type": "text"},
        "tags": {"type": "keyword"},
        "place": {"properties": {"town": {"type": "keyword"}}},
    }
}


async def found(place: SearchPlace, name: str) -> Rows | None:
    """What a search finds under a name; None if nothing has it."""
    await place.engine.ask("POST", f"/{name}/_refresh")
    answer = await place.engine.ask("POST", f"/{name}/_search", {"size": 1000})
    if answer is None:
        return None
    hits = [(hit["_id"], hit["_source"]) for hit in answer["hits"]["hits"]]
    return {id: {n: v for n, v in source.items() if n != "_bus"} for id, source in hits}


class TestSearchIndex(SinkContract):
    @pytest.fixture
    def sink(self, search_url: str, unique: str) -> Sink:
        return SearchIndex(url=search_url, mappings=MAPPINGS, prefix=unique)

    @pytest.fixture
    async def places(self, sink: Sink) -> AsyncIterator[Sequence[Place]]:
        places = [sink.place("service"), sink.place("service")]
        async with AsyncExitStack() as stack:
            for place in places:
                stack.push_async_callback(place.close)
                await place.open()
            yield places

    async def shown(self, place: Place, name: str) -> Rows | None:
        assert isinstance(place, SearchPlace)
        return await found(place, f"{place._prefix}{name}")

"""What a projection is declared with to be kept in a search engine. No I/O."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opensearchpy import AsyncOpenSearch

from bus.errors import ConfigurationError
from bus.stores.collections import Target
from bus.stores.search.declared import Declared
from bus.stores.search.engine import Engine, address_of
from bus.stores.search.place import SearchPlace
from bus.stores.search.writing import values
from bus.stores.sink import Lend, Sink

Urls = str | Sequence[str]


class ActiveIndex(str):
    """What a query searches in: an alias of the index that readers read at the time of the query.
    It hides what was removed, and stays while the query runs, also if readers are moved."""


class SearchIndex(Sink):
    """Keeps a projection in an index of OpenSearch or Elasticsearch.

        job_search = Projection(
            "job_search",
            of=[Job],
            sink=SearchIndex(
                url="https://search:9200",
                mappings={"properties": {"title": {"type": "text"}, "open": {"type": "boolean"}}},
            ),
        )

    `mappings` and `settings` (with analysers) are written as for the engine; fields that
    `mappings` does not name are refused unless it says what `dynamic` is. To change either, raise
    the projection's `version`. `url` may be a list, for the nodes of a cluster, or a function that
    returns either, called as a bus opens; user and password stand in it percent-encoded, and
    `https://` asks for TLS, with the options `cafile`, `certfile` and `keyfile`. `prefix` begins
    the names of all indices and aliases, where several services share an engine. Queries take
    `AsyncOpenSearch` and `ActiveIndex`. Raises: ConfigurationError.
    """

    kind = "index"
    versions_in_documents = True

    def __init__(
        self,
        *,
        url: Urls | Callable[[], Urls],
        mappings: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> None:
        self._url = url
        self._address = None if callable(url) else address_of(url)
        self._declared = Declared(mappings, settings or {})
        if not isinstance(prefix, str) or not re.fullmatch(r"([a-z0-9][a-z0-9_-]{0,49})?", prefix):
            raise ConfigurationError(
                f"SearchIndex(prefix={prefix!r:.60}): use lower-case letters, digits, _ and -, and "
                f"begin with a letter or digit"
            )
        self._prefix = prefix

    def place(self, service: str) -> SearchPlace:
        address = self._address or address_of(self._url() if callable(self._url) else self._url)
        return SearchPlace(Engine(address), self._declared, service, self._prefix)

    def check(self, key: Any, change: Any) -> None:
        values.check(key, change)

    def lends(self) -> Mapping[type, Lend]:
        return {AsyncOpenSearch: _lend_client, ActiveIndex: _lend_index}


@asynccontextmanager
async def _lend_client(place: SearchPlace, target: Target) -> AsyncIterator[AsyncOpenSearch]:
    with place.engine.outages():
        yield place.engine.client


@asynccontextmanager
async def _lend_index(place: SearchPlace, target: Target) -> AsyncIterator[ActiveIndex]:
    yield ActiveIndex(place.index(target).alias)

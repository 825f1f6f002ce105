"""The text of jobs in OpenSearch, under names of the demo's own. Read by plain requests."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tools.demo.fold import SEARCHED, Collections, Document
from tools.demo.store import SEARCH, Store
from tools.services import CommandFailed
from tools.services.jars import search

AT_ONCE = 1000


class Searched(Store):
    """The documents that a search finds."""

    def __init__(self, url: str, service: str) -> None:
        self._url = url
        self._prefix = f"{service}-"

    @property
    def environment(self) -> dict[str, str]:
        return {SEARCH: self._url}

    def make(self) -> None:
        """Workers make the index."""

    def drop(self) -> None:
        search.call(self._url, "DELETE", f"/{self._prefix}*")

    def read(self) -> Collections:
        try:
            return {SEARCHED: {hit["_id"]: _document(hit["_source"]) for hit in self._hits()}}
        except (*search.REFUSALS, CommandFailed):
            return {SEARCHED: {}}

    def _hits(self) -> Iterator[dict[str, Any]]:
        """All documents under the alias that readers know, page by page: a search without words."""
        alias = f"/{self._prefix}{SEARCHED}"
        search.call(self._url, "POST", f"{alias}/_refresh")
        after: list[Any] = []
        while True:
            body = {"size": AT_ONCE, "sort": ["_id"], "query": {"match_all": {}}}
            body |= {"search_after": after} if after else {}
            hits = search.call(self._url, "POST", f"{alias}/_search", body)["hits"]["hits"]
            yield from hits
            if len(hits) < AT_ONCE:
                return
            after = hits[-1]["sort"]


def _document(source: Document) -> Document:
    """Returns a document with its time as one; JSON has none."""
    posted = {name: datetime.fromisoformat(source[name]) for name in ("posted",) if name in source}
    return {**source, **posted}

"""Indices in OpenSearch or Elasticsearch. Read as any client would, by their aliases."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tools.faults.proxy import Proxy
from tools.services.jars.search import ElasticsearchNode, OpenSearchNode, SearchNode
from tools.soak.log import Document
from tools.soak.sinks.plan import AMOUNTS, ELASTICSEARCH, JOBS, OPENSEARCH, name_in
from tools.soak.sinks.store import Rows, Store

NODES: dict[str, type[SearchNode]] = {
    OPENSEARCH: OpenSearchNode,
    ELASTICSEARCH: ElasticsearchNode,
}
AT_ONCE = 5000


class IndexStore(Store):
    """An engine of its own."""

    node: SearchNode

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.node = NODES[name](folder)
        self.wire = Proxy(self.node.url)

    def start(self) -> None:
        self.node.start()

    def wipe(self) -> None:
        self.node.wipe()

    def refusing(self) -> AbstractContextManager[None]:
        return self.node.read_only()

    def has(self, jobs: Collection[str]) -> set[str]:
        """Searched, and not got by key: it is there once somebody can find it."""
        wanted = {"query": {"ids": {"values": list(jobs)}}, "size": len(jobs), "_source": False}
        return {hit["_id"] for hit in self._search(JOBS, wanted, "")}

    def rows(self) -> Rows:
        return {what: self._read(what) for what in (JOBS, AMOUNTS)}

    def _read(self, what: str) -> dict[str, Document]:
        """All documents, page by page."""
        self.node.call("POST", f"/{name_in(self.name, what)}/_refresh")
        wanted = {"size": AT_ONCE, "_source": {"excludes": ["_bus"]}}
        answer = self._begun(what, wanted)
        found: dict[str, Document] = {}
        while hits := answer["hits"]["hits"]:
            found |= {hit["_id"]: hit["_source"] for hit in hits}
            scroll = {"scroll": "1m", "scroll_id": answer["_scroll_id"]}
            answer = self.node.call("POST", "/_search/scroll", scroll)
        self.node.call("DELETE", "/_search/scroll", {"scroll_id": answer["_scroll_id"]})
        return found

    def _begun(self, what: str, wanted: Document) -> Any:
        return self.node.call("POST", f"/{name_in(self.name, what)}/_search?scroll=1m", wanted)

    def _search(self, what: str, wanted: Document, options: str) -> list[Document]:
        path = f"/{name_in(self.name, what)}/_search{options}"
        hits: list[Document] = self.node.call("POST", path, wanted, seconds=5)["hits"]["hits"]
        return hits

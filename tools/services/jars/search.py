"""Private nodes of search engines, OpenSearch and Elasticsearch, of jars that Maven fetched.

Neither is to be had as a program: `SearchServer.java` runs a node of either.
"""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from tools.services.errors import CommandFailed
from tools.services.jars.fetching import MAIN, Wanted
from tools.services.jars.jar_node import JarNode
from tools.services.ports import LOOPBACK
from tools.services.process import ServerProcess

SETTINGS = {
    "node.name": "node",
    "cluster.name": "doubledecker",
    "discovery.type": "single-node",
    "network.host": LOOPBACK,
    "transport.type": "netty4",
    "http.type": "netty4",
    # How full this machine's disk is decides nothing; a test blocks writes itself (`read_only`),
    # which the engine would undo when it next looks.
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    "cluster.info.update.interval": "24h",
    "node.processors": "2",
}

FLOOD_STAGE = "index.blocks.read_only_allow_delete"

REFUSALS = (OSError, HTTPException)
"""What a node that cannot be reached is told by."""


# Whatever proxy the environment names: engines are on this machine, or on one that is reached.
_OPENER = build_opener(ProxyHandler({}))


def call(url: str, method: str, path: str, body: object = None, *, seconds: float = 30) -> Any:
    """Send a request to an engine, with `body` as JSON (bytes as they are); returns its answer.

    Raises `CommandFailed` with the engine's words where it refuses, and `REFUSALS`.
    """
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    place, headers = _parts_of(url)
    request = Request(place + path, content, headers, method=method)
    try:
        with _OPENER.open(request, timeout=seconds) as response:
            return json.loads(response.read() or "null")
    except HTTPError as error:
        with error:
            raise CommandFailed(f"{method} {path}: {error.code} {error.read().decode()}") from error


def _parts_of(url: str) -> tuple[str, dict[str, str]]:
    """A URL without its user, and the headers that say who that is."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json"}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return urlunsplit(place).rstrip("/"), headers


class SearchNode(JarNode):
    """One search engine of our own, without security; `settings` are its own, as in its file."""

    port_names: ClassVar[tuple[str, ...]] = ("port", "transport")
    plugins: ClassVar[Sequence[str]]

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    # --- what it is asked for ----------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None, *, seconds: float = 30) -> Any:
        """As `call` of its URL."""
        return call(self.url, method, path, body, seconds=seconds)

    @contextmanager
    def read_only(self, index: str = "*") -> Iterator[None]:
        """Have the indices that there are refuse writes, as when its disk is full (flood stage)."""
        self._block_writes(index, True)
        try:
            yield
        finally:
            self._block_writes(index, None)

    # --- what a node must say of itself ------------------------------------------------------

    def _prepare(self) -> None:
        for name in ("config", "data"):
            (self.folder / name).mkdir(exist_ok=True)

    def _launch(self) -> ServerProcess:
        settings = [f"{name}={value}" for name, value in self._all_settings().items()]
        return self._run(MAIN.stem, str(self.folder), ",".join(self.plugins), *settings)

    def _await_ready(self, deadline: float) -> None:
        while not self._is_ready():
            self._still_starting(deadline)
            time.sleep(0.1)

    # --- within ----------------------------------------------------------------------------

    def _all_settings(self) -> dict[str, str]:
        ports = {"http.port": str(self.port), "transport.port": str(self.ports["transport"])}
        return {**SETTINGS, **ports, "path.data": str(self._data), **self.settings}

    def _is_ready(self) -> bool:
        """Whether all that it had is there: a single node never gets better than yellow."""
        asked = "/_cluster/health?wait_for_status=yellow&timeout=1s"
        try:
            return bool(self.call("GET", asked, seconds=5)["status"] != "red")
        except (*REFUSALS, CommandFailed):
            return False

    def _block_writes(self, index: str, value: bool | None) -> None:
        self.call("PUT", f"/{index}/_settings", {FLOOD_STAGE: value})


class OpenSearchNode(SearchNode):
    """One OpenSearch, with its analysers, Painless scripts, and update and delete by query."""

    label: ClassVar[str] = "OpenSearch"
    variable: ClassVar[str] = "BUS_TEST_OPENSEARCH_URL"
    wanted: ClassVar[Wanted] = Wanted("opensearch", label, variable, packages="org.opensearch")
    plugins: ClassVar[Sequence[str]] = (
        "org.opensearch.transport.Netty4Plugin",
        "org.opensearch.index.reindex.ReindexPlugin",
        "org.opensearch.analysis.common.CommonAnalysisPlugin",
        "org.opensearch.painless.PainlessPlugin",
    )


class ElasticsearchNode(SearchNode):
    """One Elasticsearch, with update and delete by query; of analysers it has the server's own.

    Of later versions than 7 there are no jars.
    """

    label: ClassVar[str] = "Elasticsearch"
    variable: ClassVar[str] = "BUS_TEST_ELASTICSEARCH_URL"
    wanted: ClassVar[Wanted] = Wanted(
        "elasticsearch", label, variable, packages="org.elasticsearch"
    )
    plugins: ClassVar[Sequence[str]] = (
        "org.elasticsearch.transport.Netty4Plugin",
        "org.elasticsearch.reindex.ReindexPlugin",
    )

"""What a search engine is, and how its cluster is. Changes nothing."""

from bus.errors import NotAllowed
from bus.observe.health import Finding, fault, fine, warning
from bus.stores.search.engine import Engine

START = "start the nodes that are away (GET /_cluster/allocation/explain says why shards are not)"


async def examined(engine: Engine) -> list[Finding]:
    """Returns the version and the state of the cluster, as far as the user may ask. Raises:
    StoreUnavailable."""
    return [await _version(engine), *await _state(engine)]


async def _version(engine: Engine) -> Finding:
    try:
        about = await engine.ask("GET", "/") or {}
    except NotAllowed:
        return fine(f"{engine.where}: its version is not told to this user")
    version = about.get("version", {})
    kind = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
    return fine(f"{engine.where}: {kind} {version.get('number', '?')}")


async def _state(engine: Engine) -> list[Finding]:
    try:
        health = await engine.ask("GET", "/_cluster/health", timeout="2s") or {}
    except NotAllowed:
        return []
    if health.get("status") == "red":
        return [fault(f"{engine.where}: parts of its indices have no node (red)", START, "G3")]
    if health.get("number_of_nodes", 0) > 1 and health.get("status") == "yellow":
        return [warning(f"{engine.where}: copies of its indices have no node (yellow)", START)]
    return []

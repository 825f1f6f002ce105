"""A backlog in a projection's queue, projected into an index of OpenSearch or Elasticsearch."""

from bench.comparison import Case, Comparison, Goal, Side

OWN, SHARED = "a document for each stream", "documents of several streams"
OWNED = tuple(f"{engine}, {OWN}" for engine in ("OpenSearch", "Elasticsearch"))
ALL = (*OWNED, *(f"{engine}, {SHARED}" for engine in ("OpenSearch", "Elasticsearch")))


def case(label: str) -> Case:
    """What its label says."""
    engine, _, kind = label.partition(", ")
    documents = "documents" if kind == OWN else "checkpoints"
    arguments = {"engine": engine.lower(), "kind": documents, "count": 60_000, "streams": 5000}
    return Case(label, arguments, quick={"count": 20_000})


BENCHMARK = Comparison(
    "projecting_search",
    "events/s from the start of consuming until every document is as the whole backlog makes it",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("bare, read and index", "bare_reading.py"),
        Side("bare, index", "bare_indexing.py", cases=OWNED),
        Side("bare, update", "bare_updating.py", cases=(*OWNED, f"OpenSearch, {SHARED}")),
    ],
    cases=[case(label) for label in ALL],
    goals=[
        Goal("bare, index", at_least=0.8, cases=OWNED),
        Goal("bare, update", at_least=0.8, cases=(*OWNED, f"OpenSearch, {SHARED}")),
        Goal("bare, read and index", at_least=0.8),
    ],
    rounds=3,
    also=("client_cpu_ms", "server_cpu_ms", "memory_mb"),
    java=("opensearch", "elasticsearch"),
)

"""A projection that is new to a history, built from the log."""

from bench.comparison import Case, Comparison, Goal, Side

HISTORY = {"count": 1_000_000, "streams": 50_000}
QUICK = {"count": 60_000, "streams": 5000}
IN_DOCUMENTS, IN_CHECKPOINTS = "each document of one stream", "each document of four streams"

BENCHMARK = Comparison(
    "rebuilding",
    "events/s from the start of the work until every document is as the history makes it",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("doubledecker, 2 workers", "ours_in_two.py"),
        Side("bare", "bare.py"),
    ],
    cases=[
        Case(IN_DOCUMENTS, {**HISTORY, "kind": "documents"}, quick=QUICK),
        Case(IN_CHECKPOINTS, {**HISTORY, "kind": "checkpoints"}, quick=QUICK),
    ],
    goals=[Goal("bare", at_least=0.5, cases=[IN_DOCUMENTS])],
    rounds=1,
    quick_rounds=2,
    also=("client_cpu_ms", "memory_mb"),
)

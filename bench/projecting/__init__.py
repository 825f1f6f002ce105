"""A backlog in a projection's queues, projected by workers."""

from bench.comparison import Case, Comparison, Goal, Side

BACKLOG = {"count": 1_000_000, "streams": 20_000}
QUICK = {"count": 60_000, "streams": 5000}
IN_DOCUMENTS, IN_CHECKPOINTS = "version in the document", "versions in checkpoints"

BENCHMARK = Comparison(
    "projecting",
    "events/s from the start of consuming until every document is as the whole backlog makes it",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("doubledecker, 2 partitions", "ours_in_two.py"),
        Side("bare", "bare.py"),
        Side("bare, 2 processes", "bare_in_two.py"),
    ],
    cases=[
        Case(IN_DOCUMENTS, {**BACKLOG, "kind": "documents"}, quick=QUICK),
        Case(IN_CHECKPOINTS, {**BACKLOG, "kind": "checkpoints"}, quick=QUICK),
    ],
    goals=[
        Goal("bare", at_least=0.9, cases=[IN_DOCUMENTS]),
        Goal("bare", at_least=0.6, cases=[IN_CHECKPOINTS]),
        Goal("doubledecker", at_least=1.6, ours="doubledecker, 2 partitions"),
    ],
    rounds=1,
    quick_rounds=2,
    also=("client_cpu_ms", "memory_mb"),
)

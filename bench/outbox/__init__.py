"""Events from the commit of an application's own transaction until RabbitMQ has confirmed them.

Each transaction stores an order of the application's and publishes events, on PostgreSQL.
"""

from bench.comparison import Case, Comparison, Goal, Side

ONE = "64 concurrent, 1 event each"
MANY = "16 concurrent, 100 events each"
PACED = "100 transactions/s, 1 event each"

PEERS = ("faststream-outbox", "faststream-outbox, tuned")

BENCHMARK = Comparison(
    "outbox",
    "events from an application's commit until RabbitMQ has confirmed them",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("the application alone", "alone.py", cases=(ONE,)),
        Side("faststream-outbox", "faststream_style.py", peer=True, share=0.2),
        Side("faststream-outbox, tuned", "faststream_tuned.py", peer=True, share=0.4),
    ],
    cases=[
        Case(ONE, {"count": 15_000, "concurrent": 64, "of": 1}, quick={"count": 6_000}),
        Case(MANY, {"count": 60_000, "concurrent": 16, "of": 100}, quick={"count": 30_000}),
        Case(PACED, {"rate": 100, "seconds": 20}, quick={"seconds": 8}),
    ],
    goals=[
        *(Goal(peer, at_least=10, cases=(ONE, MANY)) for peer in PEERS),
        *(Goal(peer, at_most=1, cases=(PACED,), metric="median_ms") for peer in PEERS),
    ],
    rounds=3,
    also=("median_ms", "p99_ms", "client_cpu_ms", "server_cpu_ms", "memory_mb"),
    sql=("postgresql",),
)

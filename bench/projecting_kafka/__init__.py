"""A backlog in a projection's queue, sent to a topic of Kafka's."""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "projecting_kafka",
    "events/s from the start of consuming until all of the backlog is in the topic",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("bare, send", "bare_sending.py"),
        Side("bare, batches", "bare_batching.py"),
    ],
    cases=[
        Case(
            "6 partitions",
            {"kind": "documents", "count": 60_000, "streams": 5000},
            quick={"count": 20_000},
        )
    ],
    goals=[Goal("bare, send", at_least=0.7), Goal("bare, batches", at_least=0.7)],
    rounds=3,
    also=("client_cpu_ms", "server_cpu_ms", "memory_mb"),
    java=("kafka",),
)

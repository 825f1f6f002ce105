"""What a live query costs those who write: a backlog projected while somebody watches, or nobody.

A read model that changes all the time is the worst that a watcher can do: it asks ten times a
second throughout.
"""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "live_cost",
    "events/s from the start of consuming until every document is as the whole backlog makes it",
    sides=[Side("watched", "watched.py"), Side("unwatched", "unwatched.py")],
    cases=[
        Case(
            "one worker",
            {"count": 200_000, "streams": 20_000, "kind": "documents", "partitions": 1},
            quick={"count": 60_000, "streams": 5000},
        )
    ],
    goals=[Goal("unwatched", at_least=0.9, ours="watched")],
    quick_rounds=2,
    also=("client_cpu_ms", "answers"),
)

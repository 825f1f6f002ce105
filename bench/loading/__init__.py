"""Loading an aggregate, long and short, by its events, with snapshots, and by its state."""

from bench.comparison import Case, Comparison, Goal, Side

SHORT = 10
LONG = "10,000 events"
LONGEST = "100,000 events"

BENCHMARK = Comparison(
    "loading",
    "loads/s of one aggregate, one after the other",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("driver", "driver.py"),
        Side("doubledecker, snapshots", "ours_snapshots.py"),
        Side("doubledecker, by state", "ours_state.py"),
        Side("the same of 10 events", "ours_snapshots_short.py"),
    ],
    cases=[
        Case(
            "10 events",
            {"count": 3000, "events": SHORT, "aggregates": 200},
            quick={"count": 1500},
        ),
        Case(
            "1,000 events",
            {"count": 300, "events": 1000, "aggregates": 20},
            quick={"count": 100},
        ),
        Case(LONG, {"count": 60, "events": 10_000, "aggregates": 4}, quick={"count": 20}),
        Case(LONGEST, {"count": 10, "events": 100_000, "aggregates": 1}, quick={"count": 3}),
        Case(
            "100,000 events, 100 a commit",
            {"count": 10, "events": 100_000, "aggregates": 1, "of_a_commit": 100},
            quick={"count": 3},
        ),
    ],
    goals=[
        Goal("driver", at_least=0.6),
        # 1.5 times the time at most
        Goal(
            "the same of 10 events",
            at_least=0.667,
            cases=[LONGEST],
            ours="doubledecker, snapshots",
        ),
        Goal("doubledecker", at_least=1, cases=[LONG], ours="doubledecker, by state"),
        Goal("doubledecker, snapshots", at_least=1, cases=[LONG], ours="doubledecker, by state"),
        Goal("the same of 10 events", at_least=0.9, cases=[LONG], ours="doubledecker, by state"),
    ],
    also=("ms_per_load", "events_per_second", "client_cpu_ms"),
)

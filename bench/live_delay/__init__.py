"""From execute to the answer that includes it, one command at a time; the worker elsewhere."""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "live_delay",
    "ms from the call of execute until its caller has an answer that includes what it changed",
    sides=[Side("watch", "watching.py"), Side("query after the receipt", "asking.py")],
    cases=[Case("5 commands/s", {"count": 100}, quick={"count": 40})],
    goals=[Goal("query after the receipt", at_most=3.0, ours="watch")],
    metric="median_ms",
    rounds=3,
    quick_rounds=1,
    also=("p99_ms", "execute_ms"),
)

"""From execute to the visible document, at a steady rate that nobody's answer slows down."""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "latency",
    "ms from when a command is due until a reader sees its document, at a steady rate",
    sides=[Side("doubledecker", "ours.py"), Side("message by message", "naive.py")],
    cases=[
        Case("100 commands/s", {"rate": 100, "seconds": 20}, quick={"seconds": 8}),
        Case("400 commands/s", {"rate": 400, "seconds": 20}, quick={"seconds": 8}),
    ],
    goals=[Goal("message by message", at_most=1.3)],
    metric="median_ms",
    also=("p99_ms", "execute_ms", "late_p99_ms", "client_cpu_ms", "server_cpu_ms"),
)

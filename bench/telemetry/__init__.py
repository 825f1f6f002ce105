"""What telemetry costs: the same work with nobody listening, and with traces and metrics.

"on" is what a service has that is watched: OpenTelemetry's SDK, one trace begun for each hundred
commands and messages (`BUS_TRACE_SHARE=0.01`), spans exported in batches, all metrics read each
second, states measured as a worker starts and each 15 seconds: runs take some seconds, so that this
weighs more than in a service. What is exported goes nowhere. "off" is a process that has set up
neither. Each is what its name says in `bin/bench dispatch`, `consume` and `end_to_end`.
"""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "telemetry",
    "how many a second, with traces (1 in 100 begins one) and metrics, and without",
    sides=[Side("on", "on.py"), Side("off", "off.py")],
    cases=[
        Case("dispatch", {"what": "dispatch", "count": 20_000, "loops": 7, "middleware": ""}),
        Case("query", {"what": "query", "count": 20_000, "loops": 7, "middleware": ""}),
        Case("consume, a handler", {"what": "consume", "count": 60_000}),
        Case("consume, a projection", {"what": "projection", "count": 100_000}),
        Case("end to end, 64 concurrent", {"what": "whole", "count": 40_000, "concurrent": 64}),
        Case("end to end, 256 concurrent", {"what": "whole", "count": 40_000, "concurrent": 256}),
    ],
    goals=[Goal("off", at_least=0.95, ours="on")],
    rounds=5,
    also=("memory_mb",),
)

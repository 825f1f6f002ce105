"""One event in one document after the other from each of many clients, majority and journaled."""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "append",
    "commits of one 500-byte event/s into the event log, majority and journaled, 256 concurrent",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("doubledecker, with states", "ours_state.py", share=0.05),
        Side("pymongo insert_one", "pymongo_style.py", share=0.3),
        Side("motor insert_one", "motor_style.py", share=0.3),
    ],
    cases=[Case("256 concurrent", {"count": 40_000, "concurrent": 256}, quick={"count": 20_000})],
    goals=[Goal("pymongo insert_one", at_least=6)],
)

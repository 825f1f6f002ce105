"""One document and one event in a transaction each, from many clients, majority and journaled."""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "transacting",
    "transactions/s that change one document and store one event, majority and journaled",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("motor by hand", "motor_style.py"),
        Side("pymongo by hand", "pymongo_style.py"),
    ],
    cases=[
        Case("16 concurrent", {"count": 6_000, "concurrent": 16}, quick={"count": 3_000}),
        Case("64 concurrent", {"count": 8_000, "concurrent": 64}, quick={"count": 4_000}),
    ],
    goals=[Goal("motor by hand", at_least=0.9), Goal("pymongo by hand", at_least=0.9)],
)

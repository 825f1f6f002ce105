"""execute → stored → published → projected in another process, end to end."""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "end_to_end",
    "commands/s from execute until the last document is visible in another process",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("doubledecker on PostgreSQL", "ours_sql.py"),
        Side("hand-written batches", "raw_batches.py"),
        Side("faststream", "faststream_style.py", peer=True, share=0.3),
    ],
    cases=[
        Case("64 concurrent", {"count": 12_000, "concurrent": 64}, quick={"count": 6000}),
        Case("256 concurrent", {"count": 12_000, "concurrent": 256}, quick={"count": 6000}),
    ],
    goals=[
        Goal("faststream", at_least=10),
        Goal("hand-written batches", at_least=0.8),
        Goal("doubledecker", at_least=0.8, ours="doubledecker on PostgreSQL"),
    ],
    sql=("postgresql",),
)

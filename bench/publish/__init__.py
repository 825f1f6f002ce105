"""One message after the other from each of many clients, each confirmed by the broker.

All sides: a body of 500 bytes, persistent, mandatory, one quorum queue bound to a topic exchange.
"""

from bench.comparison import Case, Comparison, Goal, Side

BENCHMARK = Comparison(
    "publish",
    "confirmed messages/s into one quorum queue, 256 in flight",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("aio-pika", "aio_pika_style.py", share=0.3),
        Side("faststream", "faststream_style.py", peer=True, share=0.2),
    ],
    cases=[Case("256 in flight", {"count": 60_000, "concurrent": 256}, quick={"count": 30_000})],
    goals=[Goal("aio-pika", at_least=3)],
)

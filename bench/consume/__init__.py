"""A full queue, emptied into an empty handler of a typed message, each acknowledged.

All sides: a quorum queue filled beforehand, a body of 500 bytes, prefetch 1,000, one process. The
clock runs from the first message until the last call of the handler has returned; where a message
is acknowledged by the side's own hand, that is within. After it the consumer is closed and the
queue must be empty: what was not acknowledged would have come back.

"doubledecker" is what a user of ours writes. Its prefetch is 100, the most that a worker allows a
handler with side effects; up to 16 of these run at once, in order for each stream.
"""

from bench.comparison import Case, Comparison, Goal, Side

OURS = ("doubledecker", "doubledecker transport")

BENCHMARK = Comparison(
    "consume",
    "messages/s typed, handled and acknowledged, prefetch 1,000",
    sides=[
        Side("doubledecker", "ours.py", share=0.4),
        Side("doubledecker projection", "ours_projection.py", share=0.6),
        Side("doubledecker transport", "ours_transport.py"),
        Side("faststream", "faststream_style.py", peer=True, share=0.2),
        Side("aio-pika", "aio_pika_style.py", share=0.3),
    ],
    cases=[Case("an empty handler", {"count": 60_000}, quick={"count": 30_000})],
    goals=[
        Goal(against, at_least=at_least, ours=ours)
        for ours in OURS
        for against, at_least in (("faststream", 5), ("aio-pika", 2.5))
    ],
    also=("client_cpu_ms", "memory_mb"),  # the servers' CPU would be that of filling, too
)

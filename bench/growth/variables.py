"""What grows, and through which values; everything else is as in `USUAL` meanwhile."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.side import Arguments

USUAL: Arguments = {
    "command": "open",
    "streams": 0,
    "filled": 0,
    "busy": 0,
    "payload": 500,
    "partitions": 1,
    "subscriptions": 1,
    "workers": 1,
    "concurrent": 256,
    "seconds": 4.0,
    "singles": 100,
}
QUICK: Arguments = {"seconds": 2.0, "singles": 50}
MOST_WORKERS = 4


class Value(NamedTuple):
    """One point on a line. A `quick` run leaves out the far ones."""

    label: str
    at: float
    arguments: Arguments
    quick: bool = True


class Line(NamedTuple):
    """Points that belong together: in one table, and one line of the picture.

    `once`: however many rounds there are, one is enough.
    """

    variable: str
    name: str
    values: Sequence[Value]
    script: str = "point.py"
    once: bool = False


BUSY = 10_000


def _log_size(command: str, busy: int = 0) -> list[Value]:
    sizes = {"10 thousand": 10_000, "100 thousand": 100_000}
    large = {"1 million": 1_000_000, "3 million": 3_000_000}
    return [
        Value(label, size, {"filled": size, "command": command, "busy": busy}, quick=label in sizes)
        for label, size in {**sizes, **large}.items()
    ]


def _partitions(count: int) -> Arguments:
    return {"partitions": count, "workers": min(count, MOST_WORKERS)}


LINES = (
    Line("events in the log", "new streams", _log_size("open")),
    Line("events in the log", "streams of the log, loaded first", _log_size("deposit")),
    Line(
        "events in the log", "10 thousand streams of it, loaded first", _log_size("deposit", BUSY)
    ),
    Line(
        "streams",
        "each stream loaded first",
        [
            Value("1, one at a time", 1, {"command": "deposit", "streams": 1, "concurrent": 1}),
            Value("100", 100, {"command": "deposit", "streams": 100, "concurrent": 64}),
            Value("10 thousand", 10_000, {"command": "deposit", "streams": 10_000}),
            Value("all new", 1_000_000, {"command": "deposit"}),
        ],
    ),
    Line(
        "partitions",
        f"a worker for each, {MOST_WORKERS} at most",
        [
            Value("1", 1, _partitions(1)),
            Value("2", 2, _partitions(2)),
            Value("4", 4, _partitions(4)),
            Value("8", 8, _partitions(8), quick=False),
        ],
    ),
    Line(
        "bytes of an event",
        "payload",
        [
            Value("100 B", 100, {"payload": 100}),
            Value("500 B", 500, {"payload": 500}),
            Value("5 KB", 5000, {"payload": 5000}),
            Value("50 KB", 50_000, {"payload": 50_000}),
        ],
    ),
    Line(
        "projections of the same events",
        "one worker",
        [
            Value("1", 1, {"subscriptions": 1}),
            Value("2", 2, {"subscriptions": 2}),
            Value("4", 4, {"subscriptions": 4}),
            Value("8", 8, {"subscriptions": 8}, quick=False),
        ],
    ),
    Line(
        "messages waiting",
        "a worker that starts",
        [
            Value("10 thousand", 10_000, {"depth": 10_000}),
            Value("100 thousand", 100_000, {"depth": 100_000}),
            Value("500 thousand", 500_000, {"depth": 500_000}, quick=False),
        ],
        script="backlog.py",
        once=True,
    ),
    Line(
        "commits waiting for the broker",
        "one relay",
        [
            Value("1 thousand", 1000, {"depth": 1000}),
            Value("10 thousand", 10_000, {"depth": 10_000}),
            Value("100 thousand", 100_000, {"depth": 100_000}, quick=False),
        ],
        script="outbox.py",
        once=True,
    ),
    Line(
        "commits to compare",
        "one sweep",
        [
            Value("10 thousand", 10_000, {"depth": 10_000}),
            Value("100 thousand", 100_000, {"depth": 100_000}, quick=False),
        ],
        script="sweep.py",
        once=True,
    ),
)

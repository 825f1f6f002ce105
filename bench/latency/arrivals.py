"""Commands that arrive by the clock, and how long each takes until its document is visible.

Open loop: a slow answer delays no arrival, and what came late to its turn counts from when it was
due, so nothing that a busy process holds up is left out. Knows the standard library alone.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from bench.side import Metrics

WARM_UP = 2.0


class Arrival(NamedTuple):
    """When a command was due, was called, and returned, by the monotonic clock."""

    key: str
    due: float
    called: float
    returned: float


async def at_rate(
    rate: float, count: int, execute: Callable[[str], Awaitable[object]]
) -> list[Arrival]:
    """Calls `execute("a0")`, `execute("a1")` ... so many times a second, whatever they take."""
    start = time.monotonic() + 0.1

    async def arrive(key: str, due: float) -> Arrival:
        called = time.monotonic()
        await execute(key)
        return Arrival(key, due, called, time.monotonic())

    arriving = []
    for number in range(count):
        due = start + number / rate
        await asyncio.sleep(due - time.monotonic())
        arriving.append(asyncio.create_task(arrive(f"a{number}", due)))
    return await asyncio.gather(*arriving)


def latencies(arrivals: Sequence[Arrival], seen: Mapping[str, float]) -> Metrics:
    """Medians and 99th percentiles, in milliseconds."""
    visible = [seen[one.key] - one.due for one in arrivals]
    executed = [one.returned - one.due for one in arrivals]
    late = [one.called - one.due for one in arrivals]
    return {
        "median_ms": statistics.median(visible) * 1000,
        "p99_ms": _p99(visible) * 1000,
        "execute_ms": statistics.median(executed) * 1000,
        "late_p99_ms": _p99(late) * 1000,
    }


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]

"""Waiting: for a condition, with a deadline and a word on what was missing; for much at once."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from bus import Bus, HealthProblem
from bus.common.batches import batched


def patience() -> float:
    """How many times longer than on an idle machine things take here now: the programs that run or
    wait to run, for each core; at least 1, and 5 at most, so that what hangs is told by name. A
    bound times this measures the bus."""
    return min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), 5.0)


async def until(
    condition: Callable[[], Any | Awaitable[Any]], missing: str, *, within: float = 30.0
) -> Any:
    """Returns the condition's first true value; `within` seconds, or longer on a machine that is
    busy, or gets busy meanwhile."""
    began, patient = time.monotonic(), 1.0
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        patient = max(patient, patience())
        if time.monotonic() - began > within * patient:
            raise AssertionError(f"after {within} s or more: {missing}")
        await asyncio.sleep(0.01)


async def problems(bus: Bus) -> list[HealthProblem]:
    """What health tells, but for this process's being late, which it remembers for a minute: the
    test runs in it, on a machine that may be busy."""
    return [one for one in (await bus.health()).problems if one.part != "event loop"]


async def is_well(bus: Bus) -> bool:
    """Whether there are no such problems."""
    return not await problems(bus)


async def in_parts(work: Iterable[Awaitable[Any]], *, of: int = 200) -> None:
    """Awaits all of it, so many at once: each has a deadline, and thousands that come together
    spend theirs waiting for one another."""
    for part in batched(work, of):
        await asyncio.gather(*part)

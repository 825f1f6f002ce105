"""Freshness: waits until projections include what a receipt tells of (read your writes)."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bus.errors import NotCaughtUp
from bus.messages import category_of
from bus.read.projection import Projection
from bus.stores.base import ReadStore

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05


async def wait_for(
    store: ReadStore,
    projections: Sequence[Projection[Any]],
    versions: Mapping[str, int],
    timeout: float,
) -> None:
    """Returns once every projection has applied `versions` of the streams that feed it.

    `timeout` is in seconds, for all of them together. Raises: NotCaughtUp.
    """
    deadline = time.monotonic() + timeout
    for projection in projections:
        await _wait_for_one(store, projection, versions, deadline)


async def _wait_for_one(
    store: ReadStore, projection: Projection[Any], versions: Mapping[str, int], deadline: float
) -> None:
    wanted = {s: v for s, v in versions.items() if category_of(s) in projection.categories}
    target = projection.target()
    pause = FIRST_PAUSE
    while wanted:
        reached = await store.versions(target, list(wanted))
        wanted = {s: v for s, v in wanted.items() if reached.get(s, 0) < v}
        if wanted:
            if time.monotonic() + pause > deadline:
                behind = ", ".join(f"{s} at {reached.get(s, 0)} of {v}" for s, v in wanted.items())
                raise NotCaughtUp(
                    f"projection {projection.name!r} has not caught up in time: {behind}; "
                    f"is a worker running, or is the stream parked?"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

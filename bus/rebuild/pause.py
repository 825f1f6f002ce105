"""Pause: keeps what readers read unchanged for some seconds, to compare it or to move from it.

Workers learn of it within a second and stop writing; what happens meanwhile waits in their queues.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from bus.common import clock
from bus.errors import ProjectionError
from bus.read.projection import Projection
from bus.rebuild.catalogue import Catalogue
from bus.stores.control import Control

HOLD_FOR = 20.0
HELD_AFTER = 3.0
"""Seconds in which every worker has learned of the pause, and has finished its batch."""
MARGIN = 5.0


class Busy(ProjectionError):
    """Somebody else holds the collection at present."""


@asynccontextmanager
async def paused(
    catalogue: Catalogue, control: Control, projection: Projection[Any]
) -> AsyncIterator[float]:
    """Pauses writes of the active collection during the block.

    Yields the time (`time.monotonic`) by which the block has to be done with it.
    Raises: Busy, StoreUnavailable.
    """
    lease = partial(control.lease, f"hold/{projection.name}", clock.new_id())
    if not await lease(HOLD_FOR):
        raise Busy(
            f"projection {projection.name!r}: its readers are being moved, or it is audited; try "
            f"again in {HOLD_FOR:.0f} s"
        )
    until = time.monotonic() + HOLD_FOR - MARGIN
    held_until = control.now().timestamp() + HOLD_FOR
    await catalogue.change(projection, lambda lineage: lineage.paused(held_until))
    try:
        await asyncio.sleep(HELD_AFTER)
        yield until
    finally:
        await catalogue.change(
            projection,
            lambda lineage: lineage.paused(0.0) if lineage.held_until == held_until else lineage,
        )
        await lease(0)

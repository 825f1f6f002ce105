"""Switch: moves readers from one collection of a projection to the next, and never back in time.

Writes to the old collection are paused for some seconds, until the new one shows all that the old
one has shown; then one document says that the new one is read. A reader that learns of it a moment
later still reads the old one, which does not change meanwhile.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from bus.errors import StoreUnavailable
from bus.read.projection import Projection
from bus.read.sweeper import SWEEP_OVERLAP
from bus.rebuild.catalogue import Catalogue
from bus.rebuild.generations import Generation, Lineage
from bus.rebuild.pause import paused
from bus.stores.collections import Collections, Target
from bus.stores.control import Control
from bus.stores.event_log import ReadableLog

PAUSE = 0.05


CatchUp = Callable[[], Awaitable[object]]


class Switch:
    """Moves the readers of one projection."""

    def __init__(
        self,
        projection: Projection[Any],
        catalogue: Catalogue,
        log: ReadableLog,
        collections: Collections,
        control: Control,
    ) -> None:
        self._projection = projection
        self._catalogue = catalogue
        self._log = log
        self._collections = collections
        self._control = control

    async def to(self, generation: Generation) -> str | None:
        """Moves readers to a collection that is built and swept; returns None, or why it did not.

        Raises: Busy, StoreUnavailable, OutcomeUnknown.
        """
        lineage = await self._catalogue.lineage(self._projection, within=0)
        new = self._catalogue.target_of(self._projection, generation)
        if lineage.building != new.collection:
            return None
        if not lineage.active:
            reason = await self._missing(new, set())
            return reason or await self._moved(new)
        read = lineage.of(lineage.active)
        if read.version > generation.version:
            return f"readers read a later version, {read.collection}"
        old = self._catalogue.target_of(self._projection, read)
        parked = {row.stream for row in await self._control.parked(old)}
        if old.place not in ("", new.place):
            # Only the former release can read it, and asks whether readers have left.
            return await self._missing(new, parked) or await self._moved(new)
        return await self._missing(new, parked) or await self._overtake(old, new)

    async def back(self, generation: Generation, catch_up: CatchUp) -> str | None:
        """Moves readers back to an earlier collection; `catch_up` brings it nearer to the log.

        Returns None, or why it did not. Raises: Busy, StoreUnavailable, OutcomeUnknown.
        """
        lineage = await self._catalogue.lineage(self._projection, within=0)
        old = self._catalogue.target_of(self._projection, lineage.of(lineage.active))
        new = self._catalogue.target_of(self._projection, generation)
        return await self._overtake(old, new, catch_up)

    async def _missing(self, new: Target, excused: set[str]) -> str | None:
        """Returns why not, if unexcused streams are parked there: readers would miss them."""
        parked = {row.stream for row in await self._control.parked(new)} - excused
        return f"streams parked that were not before: {len(parked)}" if parked else None

    async def _overtake(
        self, old: Target, new: Target, catch_up: CatchUp | None = None
    ) -> str | None:
        async with paused(self._catalogue, self._control, self._projection) as until:
            while time.monotonic() < until:
                if catch_up:
                    await catch_up()
                if not await self._is_behind(old, new):
                    return await self._moved(new)
                await asyncio.sleep(PAUSE)
        return f"it does not catch up with {old.collection}"

    async def _is_behind(self, old: Target, new: Target) -> bool:
        swept = await self._control.swept(new) or self._control.now()
        since = swept - SWEEP_OVERLAP  # streams written before are alike
        streams = {
            commit.stream async for commit in self._log.arrived(self._projection.categories, since)
        }
        shown = await self._collections.versions(old, list(streams))
        shows = await self._collections.versions(new, list(streams))
        return any(version > shows.get(stream, 0) for stream, version in shown.items())

    async def _moved(self, new: Target) -> str | None:
        """Moves readers; returns None, because nothing has prevented it."""
        switched = partial(Lineage.switched, collection=new.collection)
        await self._catalogue.change(self._projection, switched)
        with suppress(StoreUnavailable):  # a worker does so again
            await self._catalogue.show(self._projection)
        return None

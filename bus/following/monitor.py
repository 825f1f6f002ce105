"""Makes sure that nothing of other services' streams is missing here.

It asks their owners for the history at first, for events that are late, and regularly whether there
are any that nobody here has heard of. One worker at a time does so.
"""

import asyncio
from collections import defaultdict
from datetime import datetime, timedelta

from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.common.backoff import doubled
from bus.data.ids import category_of
from bus.errors import Unroutable
from bus.following.protocol import Asking
from bus.lifecycle.duty import Duty
from bus.observe.log import Logger
from bus.read.foreign import Progress

LOOK_EVERY = 1.0
LEASE = 10.0
ASK_AGAIN = 5.0
LONGEST = 60.0
SOON = 45.0
"""Seconds after the start, by which owners can report what was lost just before it."""
OVERLAP = timedelta(minutes=2)
"""How much the clocks of an owner's processes may differ."""

log = Logger("bus.history")


class HistoryMonitor:
    """Asks for what is missing, in one worker at a time."""

    def __init__(self, runtime: Runtime, asking: Asking) -> None:
        self._runtime = runtime
        self._asking = asking
        self._owner = clock.new_id()
        self._turns = Turns()
        self._has_warned = False

    @property
    def duty(self) -> Duty:
        return Duty("following", self.run)

    async def run(self) -> None:
        """Looks until cancelled; outages only delay it."""
        while True:
            await self._runtime.loops.turn("following", self._look_if_leading, None)
            await asyncio.sleep(clock.jittered(LOOK_EVERY))

    async def _look_if_leading(self) -> None:
        try:
            if await self._runtime.control.lease("following", self._owner, LEASE):
                await self.look()
            self._has_warned = False
        except Unroutable:
            if not self._has_warned:
                log.warning("owner_not_there")
            self._has_warned = True

    async def look(self) -> None:
        """Asks for everything that is due."""
        for category in self._runtime.history.asked:
            progress = await self._runtime.history.progress(category)
            if progress.is_done:
                await self._compare(progress)
            elif self._turns.is_due(f"part/{category}", progress.place, ASK_AGAIN):
                log.info("history_requested", category=category, after=progress.place)
                await self._note_heard(progress)
                await self._asking.part(category, progress.place)
        await self._ask_for_late_events()

    async def _compare(self, progress: Progress) -> None:
        every = self._runtime.settings.compare_every
        key, soon = f"heads/{progress.category}", min(SOON, every)
        due = self._turns.is_due(key, "", soon, longest=every)
        if due and progress.compared:
            await self._note_heard(progress)
            await self._asking.heads(progress.category, progress.compared - OVERLAP)

    async def _note_heard(self, progress: Progress) -> None:
        """Notes since when handlers hear of a category: from before its history is asked for."""
        begins = not progress.is_done and not progress.place
        now = self._runtime.control.now()
        await self._runtime.history.note_heard(progress.category, now, anew=begins)

    async def _ask_for_late_events(self) -> None:
        patience = timedelta(seconds=self._runtime.foreign.gap_within)
        late: dict[str, dict[str, int]] = defaultdict(dict)
        missed = await self._missed()
        self._turns.keep("stream/", {f"stream/{stream}" for stream in missed})
        for stream, (version, since) in missed.items():
            key = f"stream/{stream}"
            if self._runtime.control.now() - since >= patience and self._turns.is_due(
                key, str(version), self._runtime.foreign.gap_within
            ):
                late[category_of(stream)][stream] = version - 1
        for category, streams in late.items():
            log.warning("late_events_requested", category=category, streams=len(streams))
            await self._asking.streams(category, streams)

    async def _missed(self) -> dict[str, tuple[int, datetime]]:
        """Returns the streams that wait for a missing event: its version, and since when."""
        return {
            parked.stream: (parked.version, parked.first_seen or parked.next_try)
            for target in await self._runtime.targets()
            for parked in await self._runtime.control.parked(target)
            if parked.is_missed and category_of(parked.stream) in self._runtime.history.asked
        }


class Turns:
    """When to ask for something again: at once at first, then after pauses that grow for as long as
    nothing comes of it."""

    def __init__(self) -> None:
        self._turns: dict[str, tuple[str, float, float]] = {}

    def keep(self, prefix: str, keys: set[str]) -> None:
        """Forgets the keys that begin with `prefix`, except these."""
        self._turns = {
            key: turn
            for key, turn in self._turns.items()
            if key in keys or not key.startswith(prefix)
        }

    def is_due(self, key: str, state: str, pause: float, longest: float = LONGEST) -> bool:
        """Returns whether to ask now, and notes it as asked if so. `state` is how far things are:
        whenever it has changed, the pauses begin again."""
        now = clock.source.elapsed()
        if key in self._turns:
            before, asked, waited = self._turns[key]
            if state != before:
                self._turns[key] = state, now, pause
                return False
            if now < asked + waited:
                return False
            pause = doubled(waited, max(longest, pause))
        self._turns[key] = state, now, pause
        return True

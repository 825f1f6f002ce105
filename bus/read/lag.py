"""Lag: how far a projection's documents are behind the log."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from bus.common.batches import gathered
from bus.stores.collections import Collections, Target
from bus.stores.control import Control
from bus.stores.event_log import Commit, ReadableLog

AT_ONCE = 1000
OVERLAP = timedelta(seconds=10)
"""Commits are not stored quite in the order of their times."""


class Lag(NamedTuple):
    """How far behind the log a projection is, without its parked streams.

    So many `events` are not applied yet (at least, if `more`), the oldest of them since `oldest`,
    `seconds` ago. `parked` streams stand aside, since `parked_since` at the earliest.
    """

    events: int = 0
    seconds: float = 0.0
    oldest: datetime | None = None
    more: bool = False
    parked: int = 0
    parked_since: datetime | None = None


class LagMeter:
    """Measures one collection again and again; each time from where it was complete the last.

    It looks at `most` commits a time: a lag beyond them is told as that much and more.
    """

    def __init__(
        self,
        categories: Sequence[str],
        target: Target,
        event_log: ReadableLog,
        collections: Collections,
        control: Control,
        *,
        most: int = 200_000,
    ) -> None:
        self.target = target
        self._categories = categories
        self._log = event_log
        self._collections = collections
        self._control = control
        self._most = most
        self._complete: datetime | None = None

    async def measure(self) -> Lag:
        """Looks at what happened since everything was applied. Raises: StoreUnavailable."""
        complete = self._control.now() - OVERLAP
        rows = await self._control.parked(self.target)
        parked = {one.stream: one for one in rows if not one.is_waiting}
        since = self._complete or await self._control.swept(self.target)
        scan = self._log.arrived(self._categories, since)
        events = seen = 0
        oldest: datetime | None = None
        async for commits in gathered(scan, min(AT_ONCE, self._most)):
            late = await self._late([one for one in commits if one.stream not in parked])
            events += sum(late.values())
            times = [one.time for one in commits if one.id in late]
            oldest = min([*times, oldest] if oldest else times, default=None)
            seen += len(commits)
            if seen >= self._most:
                complete = commits[-1].time
                break
        self._complete = since if oldest else complete
        seconds = max(0.0, (self._control.now() - oldest).total_seconds()) if oldest else 0.0
        first_seen = [one.first_seen for one in parked.values() if one.first_seen]
        parked_since = min(first_seen, default=None)
        return Lag(
            events=events,
            seconds=seconds,
            oldest=oldest,
            more=seen >= self._most,
            parked=len(parked),
            parked_since=parked_since,
        )

    async def _late(self, commits: Sequence[Commit]) -> dict[str, int]:
        """Commits of which something is not applied: how many events that is, by their ids."""
        streams = list({commit.stream for commit in commits})
        reached = await self._collections.versions(self.target, streams)
        behind = {c.id: c.last - max(reached.get(c.stream, 0), c.first - 1) for c in commits}
        return {id: count for id, count in behind.items() if count > 0}

"""Lag: measures how far a projection's documents are behind the log."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from bus.common.batches import gathered
from bus.stores.collections import Collections, Target
from bus.stores.control import Control
from bus.stores.event_log import Commit, ReadableLog

AT_ONCE = 1000
OVERLAP = timedelta(seconds=10)
"""Commits are not stored exactly in the order of their times."""


class Lag(NamedTuple):
    """How far behind the log a projection is, not counting parked streams.

    `events` are not applied yet (at least so many, if `more`); the oldest of them is of the time
    `oldest`, `seconds` ago. `parked` streams are set aside, the first of them at `parked_since`.
    """

    events: int = 0
    seconds: float = 0.0
    oldest: datetime | None = None
    more: bool = False
    parked: int = 0
    parked_since: datetime | None = None


class LagMeter:
    """Measures one collection repeatedly, each time from where it was last found complete.

    It looks at about `most` commits each time; a longer lag is given as that much and `more`. Where
    more than that come between two measurings, it passes over some, so that it does not fall behind
    itself: a collection that stands still is found late by the next ones.
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
        self._ended: datetime | None = None
        """Up to when there was something to look at, the last time."""

    async def measure(self) -> Lag:
        """Measures the lag since everything was last applied. Raises: StoreUnavailable."""
        complete = end = min(self._control.now(), await self._log.settled()) - OVERLAP
        rows = await self._control.parked(self.target)
        parked = {row.stream: row for row in rows if not row.is_waiting}
        since = self._complete or await self._control.swept(self.target)
        scan = self._log.arrived(self._categories, since)
        events = seen = 0
        oldest: datetime | None = None
        async for commits in gathered(scan, min(AT_ONCE, self._most)):
            late = await self._late([c for c in commits if c.stream not in parked])
            events += sum(late.values())
            times = [commit.time for commit in commits if commit.id in late]
            oldest = min([*times, oldest] if oldest else times, default=None)
            seen += len(commits)
            if seen >= self._most:
                last = commits[-1].time
                if since is None or self._ended is None or last - since > end - self._ended:
                    complete = last
                break
        self._complete, self._ended = since if oldest else complete, end
        seconds = max(0.0, (self._control.now() - oldest).total_seconds()) if oldest else 0.0
        first_seen = [row.first_seen for row in parked.values() if row.first_seen]
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
        """Returns how many events are not applied, by the ids of their commits."""
        streams = list({commit.stream for commit in commits})
        reached = await self._collections.versions(self.target, streams)
        behind = {c.id: c.last - max(reached.get(c.stream, 0), c.first - 1) for c in commits}
        return {id: count for id, count in behind.items() if count > 0}

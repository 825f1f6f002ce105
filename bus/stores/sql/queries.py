"""Queries of the event log for people: names of events, a conversation, what is stored now.

Nothing that a service does uses them; two of them read the whole log.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import sqlalchemy as sa

from bus.common.batches import batched
from bus.stores.event_log import Commit, EventCount
from bus.stores.sql.engine import Database
from bus.stores.sql.log import PAGE, WITH_EVENTS, c
from bus.stores.sql.rows import FIELDS, commit_of

READ_WITHIN = 600.0
POLL_EVERY = 0.5
GAPS_AT_ONCE = 200

SLACK = timedelta(seconds=30)
"""How long a number may be given out before it is known that its commit is being written."""


class Gap(NamedTuple):
    """Numbers that are given out and cannot be read: they are being written, or never will be."""

    first: int
    last: int
    seen: datetime


class LogQueries:
    """Reads the table of commits."""

    def __init__(self, database: Database, settled: Callable[[], Awaitable[datetime]]) -> None:
        self._database = database
        self._settled = settled

    async def tally(self, without: Collection[str]) -> list[EventCount]:
        """Counts events by category and name, for `EventLog.tally`. Here and not in the database:
        MariaDB's functions do not read JSON that is nested as deeply as a message may be."""
        found: dict[tuple[str, str], EventCount] = {}
        async for row in self._all():
            for version, event in enumerate(row.events, row.first):
                if event["name"] not in without:
                    key = row.category, event["name"]
                    found[key] = _counted(found.get(key), key, row, version)
        return [found[key] for key in sorted(found)]

    async def _all(self) -> AsyncIterator[Any]:
        names = ("number", "category", "stream", "first", "time", "events")
        columns = [c[name] for name in names]
        last = 0
        while True:
            query = sa.select(*columns).where(c.number > last).order_by(c.number).limit(PAGE)
            rows = await self._database.rows(query, READ_WITHIN)
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
            last = rows[-1].number

    async def conversation(self, correlation_id: str, since: datetime | None) -> list[Commit]:
        """Returns the commits with a correlation id, by time; with `since`, it uses the index of
        categories and times."""
        query = sa.select(*FIELDS).where(c.correlation_id == correlation_id)
        if since is not None:
            query = query.where(c.category.in_(await self.categories()), c.time >= since)
        found = [commit_of(row) for row in await self._database.rows(query, READ_WITHIN)]
        return sorted(found, key=lambda commit: (commit.time, commit.first))

    async def follow(self, last: int, categories: Sequence[str]) -> AsyncGenerator[Commit, None]:
        """Yields commits for `EventLog.follow`, by asking every half second for higher numbers, and
        for those that were passed over before: a number is given out when a commit is begun, and
        commits end in another order.

        (PostgreSQL's NOTIFY would say so at once. But a transaction that notifies holds a lock of
        the whole database while it commits, so that all appends would wait for one another.)
        """
        position, gaps = await self._position()
        shown = await self._last(last, categories)
        for commit in shown:
            yield commit
        known = {commit.id for commit in shown}
        while True:
            settled = await self._settled() if gaps else self._database.now()
            late, above = await self._within(gaps), await self._above(position)
            rows = [*late, *above]
            gaps = _gaps_after(position, gaps, [row.number for row in rows], self._database.now())
            position = max([position, *(row.number for row in rows)])
            for row in rows:
                wanted = row.last >= row.first and (not categories or row.category in categories)
                if wanted and row.id not in known:
                    yield commit_of(row)
            # What was being written before this time was there to be read, or never comes.
            gaps = [gap for gap in gaps if gap.seen + SLACK >= settled]
            if len(above) < PAGE:
                await asyncio.sleep(POLL_EVERY)

    async def _position(self) -> tuple[int, list[Gap]]:
        """Returns the highest number, and as gaps what may be being written below it."""
        settled = await self._settled()
        recent = sa.select(c.number, c.time).order_by(c.number.desc()).limit(PAGE)
        rows = await self._database.rows(recent)
        numbers = [row.number for row in rows]
        while len(rows) == PAGE and max(row.time for row in rows) + SLACK >= settled:
            rows = await self._database.rows(recent.where(c.number < numbers[-1]))
            numbers += [row.number for row in rows]
        before = numbers[-1] if len(rows) == PAGE else 0
        return max(numbers, default=0), _gaps_after(before, [], numbers, self._database.now())

    async def _within(self, gaps: Sequence[Gap]) -> list[sa.Row[Any]]:
        """Returns all that can be read in gaps by now."""
        found: list[sa.Row[Any]] = []
        for some in batched(gaps, GAPS_AT_ONCE):
            any_of = sa.or_(*(c.number.between(gap.first, gap.last) for gap in some))
            query = sa.select(*FIELDS).where(any_of).order_by(c.number)
            found += await self._database.rows(query)
        return found

    async def _above(self, position: int) -> Sequence[sa.Row[Any]]:
        query = sa.select(*FIELDS).where(c.number > position).order_by(c.number).limit(PAGE)
        return await self._database.rows(query)

    async def _last(self, count: int, categories: Sequence[str]) -> list[Commit]:
        """Returns the last commits with events, by time."""
        if not count:
            return []
        of = list(categories) or await self.categories()
        query = sa.select(*FIELDS).where(c.category.in_(of), WITH_EVENTS)
        query = query.order_by(c.time.desc(), c.first.desc()).limit(count)
        return [commit_of(row) for row in reversed(await self._database.rows(query))]

    async def categories(self) -> list[str]:
        """Returns all categories, sorted, by jumps from one to the next in the index."""
        found: list[str] = []
        while True:
            query = sa.select(c.category).order_by(c.category).limit(1)
            if found:
                query = query.where(c.category > found[-1])
            rows = await self._database.rows(query)
            if not rows:
                return found
            found.append(rows[0].category)


def _gaps_after(
    position: int, gaps: Sequence[Gap], numbers: Sequence[int], now: datetime
) -> list[Gap]:
    """Returns the gaps that are left once these numbers were read: what is between them too."""
    read = sorted(numbers)
    left: list[Gap] = []
    for gap in gaps:
        left += _parts(gap, read[bisect_left(read, gap.first) : bisect_right(read, gap.last)])
    above = read[bisect_right(read, position) :]
    if above:
        left += _parts(Gap(position + 1, above[-1], now), above)
    return left


def _parts(gap: Gap, read: Sequence[int]) -> list[Gap]:
    """Returns what is left of a gap between the numbers that were read."""
    edges = [gap.first - 1, *read, gap.last + 1]
    return [
        gap._replace(first=before + 1, last=after - 1)
        for before, after in pairwise(edges)
        if after - before > 1
    ]


def _counted(before: EventCount | None, key: tuple[str, str], row: Any, version: int) -> EventCount:
    if before is None:
        return EventCount(
            name=key[1],
            category=key[0],
            count=1,
            first=row.time,
            last=row.time,
            stream=row.stream,
            version=version,
        )
    return before._replace(
        count=before.count + 1,
        first=min(before.first, row.time),
        last=max(before.last, row.time),
    )

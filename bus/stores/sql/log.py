"""Commits in a table, read as the read deck does: by stream, by category, in pages.

Each page is a query of its own, from where the last one ended, so that a slow reader holds nothing
open.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from bus.stores.event_log import Commit, StoredLog
from bus.stores.sql.engine import STALLED, Database
from bus.stores.sql.rows import FIELDS, commit_of
from bus.stores.sql.schema import commits
from bus.stores.together.loader import Page, Pages

FIRST_PAGE, PAGE = 100, 1000
"""Commits in the first page of a scan, and in a later one."""
PAGE_BYTES = 8 * 1024 * 1024
COUNT_WITHIN = 60.0
"""Seconds: a server counts about a million commits in one."""

c = commits.c
BY_TIME = (c.time, c.first, c.number)
BY_STREAM = (c.stream, c.first)

WITH_EVENTS = c.last >= c.first
SENDING = c.outgoing.is_not(None)

Condition = sa.ColumnElement[bool]


class SqlLog(StoredLog):
    """The table of commits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> datetime:
        return self._database.now()

    async def settled(self) -> datetime:
        """Returns the time now, or that of the earliest commit that is being written, by whichever
        process, however long that takes.

        What is not being written yet is so within `settling.WRITTEN_WITHIN` of its being sent, or
        never. Raises: StoreUnavailable.
        """
        now = self.now()
        earliest: datetime | None = await self._database.reading(self._database.dialect.earliest)
        if earliest is None:
            return now
        if now - earliest > timedelta(seconds=STALLED):
            await self._database.end_stalled()
        return min(now, earliest)

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        found = await self._read(c.stream == stream, c.first > after, order=c.first, limit=limit)
        if after > 0 and not (found and found[0].first == after + 1):
            earlier = (c.stream == stream, c.first <= after)
            before = await self._read(*earlier, order=c.first.desc(), limit=1)
            found = [commit for commit in before if commit.last > after] + found
        return found[:limit] if limit else found

    async def _read(self, *where: Condition, order: Any, limit: int = 0) -> list[Commit]:
        query = sa.select(*FIELDS).where(*where).order_by(order).limit(limit or None)
        return [commit_of(row) for row in await self._database.rows(query)]

    async def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        async for row in self._scan(categories, since, None, WITH_EVENTS):
            yield commit_of(row)

    async def arrived(
        self,
        categories: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Commit]:
        async for row in self._scan(categories, since, until, WITH_EVENTS):
            yield commit_of(row)

    async def _scan(
        self,
        categories: Sequence[str],
        since: datetime | None,
        until: datetime | None,
        holding: Condition,
        fields: Sequence[Any] = FIELDS,
    ) -> AsyncIterator[Any]:
        """Yields rows by time, then by version; any number of commits may have the same time."""
        names = sorted(set(categories))
        bounds = [] if since is None else [c.time >= since]
        bounds += [] if until is None else [c.time <= until]
        last: Any = None
        size = FIRST_PAGE
        while names:
            where = [*bounds, holding]
            if last is not None:
                where += [c.time >= last.time, self._beyond(BY_TIME, last)]
            rows = await self._database.rows(_page_of(names, where, size, fields))
            for row in rows:
                yield row
            if len(rows) < size:
                return
            last, size = rows[-1], _next_size(rows)

    async def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        streams = _streams_of(category, after, until)
        last: Any = None
        size = FIRST_PAGE
        while True:
            where = [*streams, WITH_EVENTS]
            if last is not None:
                where += [c.stream >= last.stream, self._beyond(BY_STREAM, last)]
            query = sa.select(*FIELDS).where(*where).order_by(*BY_STREAM).limit(size)
            rows = await self._database.rows(query)
            yield map(commit_of, rows)
            if len(rows) < size:
                return
            last, size = rows[-1], _next_size(rows)

    def _beyond(self, order: Sequence[Any], last: Any) -> Condition:
        values = [getattr(last, column.name) for column in order]
        return self._database.dialect.beyond(order, values)

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        rows = await self._database.rows(heads_of(streams))
        return {row.stream: row.last for row in rows if row.last}

    async def split(self, category: str, parts: int) -> list[str]:
        ends: list[str] = []
        count = sa.select(sa.func.count()).select_from(commits).where(*_streams_of(category))
        size = (await self._database.rows(count))[0][0] // parts
        while len(ends) < parts - 1:
            streams = _streams_of(category, *ends[-1:])
            query = sa.select(c.stream).where(*streams).order_by(c.stream).offset(size).limit(1)
            found = await self._database.rows(query)
            if not found:
                break
            ends.append(found[0].stream)
        return ends

    async def count(self, categories: Sequence[str]) -> int:
        query = sa.select(sa.func.count()).select_from(commits)
        query = query.where(c.category.in_(list(categories)))
        found = await self._database.rows(query, COUNT_WITHIN)
        return int(found[0][0])


class SqlPages(Pages):
    """Reads only what it takes to load aggregates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_all(
        self, whole: Sequence[str], parts: Sequence[tuple[str, int]], limit: int
    ) -> Page:
        any_of = [sa.and_(c.stream == stream, c.first >= first) for stream, first in parts]
        if whole:
            any_of.append(c.stream.in_(list(whole)))
        return await self._page(sa.or_(*any_of), BY_STREAM, limit)

    async def beyond(self, stream: str, first: int, limit: int) -> Page:
        return await self._page(sa.and_(c.stream == stream, c.first > first), [c.first], limit)

    async def last_before(self, stream: str, first: int) -> Page:
        return await self._page(sa.and_(c.stream == stream, c.first < first), [c.first.desc()], 1)

    async def _page(self, where: Condition, order: Sequence[Any], limit: int) -> Page:
        query = sa.select(c.stream, c.first, c.events).where(where)
        rows = await self._database.rows(query.order_by(*order).limit(limit))
        return [dict(row._mapping) for row in rows]


def heads_of(streams: Sequence[str]) -> sa.Select[Any]:
    """Returns the query for the heads of streams: rows of `stream` and `last`."""
    newest = (
        sa.select(c.stream, sa.func.max(c.first).label("first"))
        .where(c.stream.in_(list(streams)))
        .group_by(c.stream)
        .subquery()
    )
    return sa.select(c.stream, c.last).join(
        newest, sa.and_(c.stream == newest.c.stream, c.first == newest.c.first)
    )


def _page_of(
    categories: Sequence[str], where: Sequence[Condition], size: int, fields: Sequence[Any]
) -> sa.Executable:
    """Returns the query for a page by time.

    Of several categories, each is read by itself, and only its keys: so each is a part of the
    index, read in order, and what is beyond the page is not fetched.
    """
    if len(categories) == 1:
        query = sa.select(*fields).where(c.category == categories[0], *where)
        return query.order_by(*BY_TIME).limit(size)
    each = [
        sa.select(*BY_TIME)
        .where(c.category == name, *where)
        .order_by(*BY_TIME)
        .limit(size)
        .subquery()
        .select()
        for name in categories
    ]
    union = sa.union_all(*each).subquery()
    keys = sa.select(union).order_by(union.c.time, union.c.first, union.c.number).limit(size)
    found = keys.subquery()
    return sa.select(*fields).join(found, c.number == found.c.number).order_by(*BY_TIME)


def _next_size(rows: Sequence[Any]) -> int:
    """Returns how many commits the next page may have, by the size of the last ones: it bounds what
    is held."""
    events = sum(len(str(row.events)) for row in rows[-10:]) // len(rows[-10:])
    return max(min(PAGE, PAGE_BYTES // (events + 1)), 10)


def _streams_of(category: str, after: str = "", until: str = "") -> list[Condition]:
    """Returns conditions for a category's streams: their ids begin with its name and a hyphen, and
    `.` is the character after `-`."""
    end = c.stream <= until if until else c.stream < f"{category}."
    return [c.stream > (after or f"{category}-"), end]

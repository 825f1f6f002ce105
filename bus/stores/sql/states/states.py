"""The states of aggregates that are stored by their state: a row for each stream, and one in
`bus_state_fields` for each value by which it is found."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.data.ids import category_of
from bus.data.payload import Document
from bus.errors import BusError, OutcomeUnknown, StoreUnavailable
from bus.stores.documents.matching import matcher
from bus.stores.event_log import Commit, Snapshot
from bus.stores.records import NotOlder, state_document, state_from, states_filter
from bus.stores.sql.engine import Database
from bus.stores.sql.rows import checked
from bus.stores.sql.schema import state_fields, states
from bus.stores.sql.states import finding
from bus.stores.sql.states.places import Indexes, place_of
from bus.stores.sql.states.stored import StoredStates, snapshot_of
from bus.stores.sql.states.writing import index, indexed, put

PAGE = 500
AT_A_TIME = 100
"""States that are indexed in one transaction, each perhaps of megabytes."""
ANALYZE_WITHIN = 60.0


class SqlStates(StoredStates):
    """The states of aggregates that are stored by their state."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, states)
        self._declared: dict[str, frozenset[str]] = {}
        """The fields by which this process indexes the states of a category."""
        self._known: dict[str, dict[int, Indexes]] = {}
        """By what states of a category are indexed, by whatever release, under the digest."""

    async def save(self, snapshot: Snapshot) -> None:
        """Stores a state in place of one that is not newer."""
        row = self._fields(snapshot)

        async def save(connection: AsyncConnection) -> None:
            await put(connection, [row], over_equal=True)

        try:
            await self._database.changing(save)
        except NotOlder:
            return

    def _fields(self, snapshot: Snapshot) -> Document:
        checked(state_document(snapshot), snapshot.state)
        declared = self._declared.get(category_of(snapshot.stream), frozenset())
        return indexed(snapshot._asdict(), declared)

    def of(self, commits: Sequence[Commit]) -> list[Document]:
        """Returns the rows of commits' states. Raises: InvalidMessage."""
        return [self._fields(commit.state) for commit in commits if commit.state]

    async def write(self, connection: AsyncConnection, rows: Sequence[Document]) -> None:
        """Stores states as a part of a transaction. Raises: NotOlder, the driver's errors."""
        if rows:
            await put(connection, rows)

    async def select(
        self, category: str, fields: Mapping[str, Any], limit: int, shape: str, after: str
    ) -> list[Snapshot]:
        """Returns states for `EventLog.states`. Values are compared here, as all stores do it."""
        is_wanted = matcher(states_filter(category, fields, shape=shape, after=after))
        places = self._places(category, fields)
        found: list[Snapshot] = []
        while len(found) < limit:
            size = PAGE if fields else min(PAGE, limit - len(found))
            if places:
                rows = await self._narrowed(category, places, shape, after, size)
            else:
                rows = await self._database.rows(finding.all_of(category, after, size))
            documents = [state_document(snapshot_of(row)) for row in rows]
            found += map(state_from, filter(is_wanted, documents))
            if len(rows) < size:
                break
            after = rows[-1].stream
        return found[:limit]

    def _places(self, category: str, fields: Mapping[str, Any]) -> dict[str, int]:
        """Returns the places of what is asked for, by field, as far as it is indexed."""
        declared = self._declared.get(category, frozenset())
        found = {
            name: place_of(category, name, value)
            for name, value in fields.items()
            if name in declared
        }
        return {name: place for name, place in found.items() if place is not None}

    async def _narrowed(
        self, category: str, places: Mapping[str, int], shape: str, after: str, size: int
    ) -> Sequence[sa.Row[Any]]:
        known = self._known.setdefault(category, {})
        while True:
            query = finding.may_match(
                category,
                [*places.values()],
                others=[by for by in known if not known[by].cover(places, shape)],
                known=known,
                after=after,
                size=size,
            )
            rows = await self._database.rows(query)
            if rows[0].unknown is None:
                return [row for row in rows if row.stream is not None]
            await self._learn(category, rows[0].unknown)

    async def prepare(self, category: str, fields: Sequence[str]) -> None:
        """Indexes states by these fields from now on, and those that are not yet; what is indexed
        by more fields stays as it is, so that releases side by side do not undo each other's work.

        It goes on where another process, or an earlier start, was. Raises: StoreUnavailable.
        """
        self._declared[category] = own = frozenset(filter(str.isidentifier, fields))
        if not own:
            return
        found_by: int | None = finding.UNINDEXED
        count = 0
        while found_by is not None:
            if not await self._covers(category, found_by, own):
                count += await self._index(category, found_by, own)
            rows = await self._database.rows(finding.next_found_by(category, found_by))
            found_by = rows[0][0]
        if count:
            await self._analyze()

    async def _covers(self, category: str, found_by: int, fields: frozenset[str]) -> bool:
        if found_by == finding.UNINDEXED:
            return False
        await self._learn(category, found_by)
        known = self._known.get(category, {}).get(found_by)
        return known is None or known.cover(fields)

    async def _learn(self, category: str, found_by: int) -> None:
        """Looks what a digest stands for, at one of the states that are found by it; if none is any
        more, nothing is learned."""
        for row in await self._database.rows(finding.one_of(category, found_by)):
            known = self._known.setdefault(category, {})
            known[found_by] = Indexes(row.shape, frozenset(row.places))

    async def _index(self, category: str, found_by: int, fields: frozenset[str]) -> int:
        """Returns how many states it has indexed."""
        after, count = "", 0
        while rows := await self._database.rows(
            finding.streams_by(category, found_by, after, AT_A_TIME)
        ):
            streams = [row.stream for row in rows]
            change = partial(index, streams=streams, found_by=found_by, fields=fields)
            try:
                await self._database.changing(change)
            except OutcomeUnknown as error:
                raise StoreUnavailable(
                    f"{error}; what is indexed stays so: start again, and it goes on from there"
                ) from error
            after, count = streams[-1], count + len(streams)
        return count

    async def _analyze(self) -> None:
        """Has PostgreSQL, which by itself does so within a minute, see that states are indexed now:
        it may know them all as found by nothing, and reads them all then, for each query."""
        if self._database.engine.dialect.name == "postgresql":
            counted = sa.text(f"ANALYZE {states.name}, {state_fields.name}")
            with suppress(BusError):
                await self._database.write(counted, ANALYZE_WITHIN)

    async def forget_of(self, category: str) -> None:
        """Removes the states of a category, or all, with their places."""
        every = states.delete()
        await self._database.write(
            every.where(states.c.category == category) if category else every
        )

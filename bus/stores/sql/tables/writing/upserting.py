"""What a batch makes of rows that nobody has to read: one statement for all that change alike.

That is possible where a new row and an old one can be told by the database alone: the table has no
constraints but its primary key, what a change leaves out of a new row has a default or may be
empty, and sums come out alike whatever a row holds. Otherwise `folding` reads the rows.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.data.ids import key_of
from bus.stores.collections import Write
from bus.stores.sink import Remove, Upsert
from bus.stores.sql.tables.columns import bound, defaults, increased, stored, summed
from bus.stores.sql.tables.keys import Key
from bus.stores.sql.tables.writing.folding import apply_all, delete, whole
from bus.stores.sql.tables.writing.merging import upsert


class Known(NamedTuple):
    """What is known of a table. `needed` are the columns of which a new row must say something;
    `sums` are those that the database adds to as Python does, with what a sum has to stay below."""

    defaults: Mapping[str, Any]
    needed: frozenset[str]
    sums: Mapping[str, Any]


@lru_cache(256)
def known(table: sa.Table) -> Known | None:
    """Returns what is known of a table; None if its rows have to be read."""
    if _is_constrained(table):
        return None
    given = {name: value for name, value in defaults(table).items() if value is not None}
    empty = defaults(table).keys() - given.keys()
    needed = frozenset(name for name in empty if not table.columns[name].nullable)
    bounds = {column.name: bound(column) for column in table.columns}
    return Known(given, needed, {name: most for name, most in bounds.items() if most})


def _is_constrained(table: sa.Table) -> bool:
    """Returns whether what a change leaves out of a new row decides if the row may be."""
    return (
        bool(table.constraints - {table.primary_key})
        or any(column.constraints for column in table.columns)
        or any(index.unique for index in table.indexes)
    )


class Row:
    """A row that was not read, as the batch has changed it so far."""

    __slots__ = ("added", "removed", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.added: dict[str, Any] = {}
        self.removed = False

    def apply(self, table: sa.Table, change: Any) -> None:
        """Applies one change. Raises: ProjectionError."""
        if isinstance(change, Remove):
            self.removed, self.values, self.added = True, {}, {}
            return
        if self.removed:  # nothing of what it held counts any more
            self.removed, self.values = False, defaults(table)
        if isinstance(change, Upsert):
            for name, value in change.values.items():
                self.added.pop(name, None)
                self.values[name] = stored(table.columns[name], value)
            return
        for name, amount in change.amounts.items():
            column = table.columns[name]
            if name in self.values:
                self.values[name] = increased(column, self.values[name], amount)
            else:
                self.added[name] = summed(column, self.added.get(name), amount)


Alike = tuple[bool, frozenset[str], frozenset[str]]
"""Whether rows are removed; the columns that are set; those that are added to."""


def unread(table: sa.Table, writes: Sequence[Write]) -> Mapping[Alike, Mapping[Key, Row]] | None:
    """Returns rows by what is to be done to them, or None if the table's rows have to be read.

    Raises: ProjectionError."""
    facts = known(table)
    if facts is None:
        return None
    alike: dict[Alike, dict[Key, Row]] = defaultdict(dict)
    for key, row in sorted(apply_all(table, writes, Row).items()):
        if not row.removed and not _is_told(facts, row):
            return None
        alike[row.removed, frozenset(row.values), frozenset(row.added)][key] = row
    # Statements after one another lock rows in no order, so that two writers of the same rows might
    # wait for each other. Rows of one stream have one writer, which its version has let through.
    is_ordered = len(alike) == 1 or all(key_of(write.stream) == write.key for write in writes)
    return alike if is_ordered else None


def _is_told(facts: Known, row: Row) -> bool:
    """Returns whether the change says all of a new row, and as much of an old one."""
    is_whole = all(name in row.values or name in row.added for name in facts.needed)
    return is_whole and all(
        name in facts.sums and abs(facts.defaults.get(name, 0) + added) < facts.sums[name]
        for name, added in row.added.items()
    )


class Upserting:
    """Changes rows of one table unread, within a transaction."""

    def __init__(self, connection: AsyncConnection, table: sa.Table) -> None:
        self._connection = connection
        self._table = table
        facts = known(table)
        self._defaults = facts.defaults if facts else {}

    async def run(self, rows: Mapping[Alike, Mapping[Key, Row]]) -> None:
        """Makes the changes. Raises: the driver's errors."""
        for (removed, _, added), alike in rows.items():
            if removed:
                await delete(self._connection, self._table, list(alike))
            else:
                await self._upsert(added, alike)

    async def _upsert(self, added: frozenset[str], rows: Mapping[Key, Row]) -> None:
        (first, *_) = rows.values()
        given = [self._given(key, row) for key, row in rows.items()]
        names, sums = sorted(first.values), sorted(added)
        await upsert(self._connection, self._table, given, partial(self._changed, names, sums))

    def _given(self, key: Key, row: Row) -> dict[str, Any]:
        """Returns the row as it is if it is new."""
        sums = {name: self._defaults.get(name, 0) + amount for name, amount in row.added.items()}
        return whole(self._table, key, {**self._defaults, **row.values, **sums})

    def _changed(self, names: Sequence[str], added: Sequence[str], given: Any) -> dict[str, Any]:
        """Returns what becomes of a row that is there already."""
        changed = {name: given[name] for name in names}
        for name in added:
            column = self._table.columns[name]
            before = sa.func.coalesce(column, sa.literal_column("0")) if column.nullable else column
            amount = given[name]
            if default := self._defaults.get(name):  # is part of what a new row is given
                # Written out: MariaDB's driver knows parameters among the values alone.
                amount = amount - sa.literal_column(f"({Decimal(default):f})")
            changed[name] = before + amount
        nothing = next(iter(self._table.primary_key.columns)).name
        return changed or {nothing: given[nothing]}

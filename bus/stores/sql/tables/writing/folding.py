"""What a batch makes of rows: they are read and locked, changed here in order, and written once.

An update leaves columns alone that nobody changed, and a row that is new is inserted whole: so a
column may be NOT NULL though most events do not name it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.common.batches import batched
from bus.errors import ProjectionError
from bus.stores.collections import Write
from bus.stores.sink import Increment, Remove, Upsert
from bus.stores.sql.tables.columns import defaults, increased, stored, written
from bus.stores.sql.tables.keys import AT_ONCE, Key, among, parts_of, rows_of
from bus.stores.sql.tables.writing.merging import at_once, upsert


class Changeable(Protocol):
    """What a batch changes."""

    def apply(self, table: sa.Table, change: Any) -> None: ...


class Row:
    """A row, as the batch has made it so far."""

    def __init__(self, found: dict[str, Any] | None) -> None:
        self.existed = found is not None
        self.values = found
        self.touched: set[str] = set()
        self.removed = False

    @property
    def is_gone(self) -> bool:
        """Whether the row that was there is to go, for another one or for none."""
        return self.existed and self.removed

    @property
    def is_new(self) -> bool:
        """Whether a row is to be inserted."""
        return self.values is not None and (self.removed or not self.existed)

    def apply(self, table: sa.Table, change: Any) -> None:
        """Applies one change. Raises: ProjectionError."""
        if isinstance(change, Remove):
            self.removed, self.values = self.removed or self.existed, None
            self.touched.clear()
            return
        if self.values is None:
            self.values = defaults(table)
        given = change.values if isinstance(change, Upsert) else change.amounts
        for name, value in given.items():
            column = table.columns[name]
            is_sum = isinstance(change, Increment)
            before = self.values.get(name)
            self.values[name] = (
                increased(column, before, value) if is_sum else stored(column, value)
            )
            self.touched.add(name)


Changed = TypeVar("Changed", bound=Changeable)


def apply_all(
    table: sa.Table,
    writes: Sequence[Write],
    make: Callable[[], Changed],
    found: Mapping[Key, Changed] | None = None,
) -> dict[Key, Changed]:
    """Returns rows by their keys, those that were `found` and others, as writes change them one
    after the other. Raises: ProjectionError."""
    rows = dict(found or {})
    for write in writes:
        key = parts_of(table, write.key)
        row = rows.get(key) or rows.setdefault(key, make())
        try:
            row.apply(table, write.update)
        except (ProjectionError, TypeError, ArithmeticError, KeyError) as error:
            raise ProjectionError(f"{write.by}: {_reason(error)}") from None
    return rows


class Folding:
    """Changes rows of one table, within a transaction."""

    def __init__(self, connection: AsyncConnection, table: sa.Table) -> None:
        self._connection = connection
        self._table = table
        self._key = list(table.primary_key.columns)

    async def run(self, writes: Sequence[Write]) -> None:
        """Makes changes of rows, in order. Raises: ProjectionError, and the driver's errors."""
        found = await self._found({parts_of(self._table, write.key) for write in writes})
        rows = apply_all(self._table, writes, partial(Row, None), found)
        gone = [key for key, row in rows.items() if row.is_gone]
        await delete(self._connection, self._table, gone)
        await self._update(rows)
        await self.insert({key: row.values for key, row in rows.items() if row.is_new})

    async def _found(self, keys: Iterable[Key]) -> dict[Key, Row]:
        rows: dict[Key, Row] = {key: Row(None) for key in keys}
        names = written(self._table)
        wanted = [*self._key, *(self._table.columns[name] for name in names)]
        for chunk in batched(sorted(rows), AT_ONCE):
            statement = rows_of(wanted, self._key, chunk, self._connection.dialect, locks=True)
            for found in await self._connection.execute(statement):
                parts = tuple(found[: len(self._key)])
                rows[parts] = Row(dict(zip(names, found[len(self._key) :], strict=True)))
        return rows

    async def insert(self, rows: Mapping[Key, Any]) -> None:
        """Adds whole rows, which are not there. Raises: the driver's errors."""
        if rows:
            given = [whole(self._table, key, values) for key, values in sorted(rows.items())]
            await at_once(self._connection, self._table, sa.insert(self._table), given)

    async def _update(self, rows: dict[Key, Row]) -> None:
        alike: dict[frozenset[str], list[tuple[Key, Any]]] = defaultdict(list)
        for key, row in sorted(rows.items()):
            if row.existed and not row.removed and row.touched:
                alike[frozenset(row.touched)].append((key, row.values))
        for names, some in alike.items():
            await self._update_alike(sorted(names), some)

    async def _update_alike(self, names: Sequence[str], rows: Sequence[tuple[Key, Any]]) -> None:
        given = [whole(self._table, key, values) for key, values in rows]
        # Each of them is there, and locked.
        await upsert(self._connection, self._table, given, partial(_overwriting, names))


async def delete(connection: AsyncConnection, table: sa.Table, keys: Sequence[Key]) -> None:
    """Removes the rows with these keys. Raises: the driver's errors."""
    for chunk in batched(keys, AT_ONCE):
        is_one = among(list(table.primary_key.columns), chunk, connection.dialect)
        await connection.execute(sa.delete(table).where(is_one))


def whole(table: sa.Table, key: Key, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row as it is written."""
    parts = zip(table.primary_key.columns, key, strict=True)
    return {**values, **{column.name: part for column, part in parts}}


def _overwriting(names: Sequence[str], given: Any) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _reason(error: Exception) -> str:
    if isinstance(error, ProjectionError):
        return str(error)
    return f"the change cannot be applied to the row ({type(error).__name__})"

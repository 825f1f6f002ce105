"""Whole rows, for an audit: documents whose `_id` is the key of the row."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.common.batches import batched
from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, is_of_store, kind_of
from bus.stores.sql.tables.columns import written
from bus.stores.sql.tables.keys import AT_ONCE, Key, among, key_of, parts_of, rows_of
from bus.stores.sql.tables.refusals import is_refused, words


class Auditing:
    """Reads and corrects rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, table: sa.Table, after: Any, limit: int) -> list[Document]:
        """Returns rows in the order of their keys, beyond `after` ("": from the first)."""
        key = list(table.primary_key.columns)
        found = _rows(table).order_by(*key).limit(limit)
        if after != "":
            found = found.where(self._database.dialect.beyond(key, parts_of(table, after)))
        return [_document(table, row) for row in await self._database.rows(found)]

    async def whole(self, table: sa.Table, keys: Sequence[Any]) -> dict[Any, Document]:
        """Returns rows by key."""
        asked = {parts_of(table, key): key for key in keys}
        columns, found = list(table.primary_key.columns), dict[Any, Document]()
        own = [parts for parts in asked if len(parts) == len(columns)]
        for chunk in batched(own, AT_ONCE):
            asked_for = rows_of(_wanted(table), columns, chunk, self._database.engine.dialect)
            for row in await self._database.rows(asked_for):
                found[asked[tuple(row[: len(columns)])]] = _document(table, row)
        return found

    async def sample(self, table: sa.Table, count: int) -> list[Any]:
        """Returns keys of rows chosen at random."""
        is_postgresql = self._database.engine.dialect.name == "postgresql"
        chance: Any = sa.func.random() if is_postgresql else sa.func.rand()
        found = sa.select(*table.primary_key.columns).order_by(chance).limit(count)
        return [key_of(table, row) for row in await self._database.rows(found)]

    async def replace(
        self, table: sa.Table, key: Any, found: Document | None, wanted: Document | None
    ) -> bool:
        """Replaces a row, if it is still the same. Raises: ProjectionError, StoreUnavailable,
        OutcomeUnknown."""
        parts = parts_of(table, key)

        async def change(connection: AsyncConnection) -> bool:
            is_one = among(list(table.primary_key.columns), [parts], connection.dialect)
            locked = await connection.execute(_rows(table).where(is_one).with_for_update())
            rows = [_document(table, row) for row in locked]
            if rows != ([found] if found else []):
                return False
            await _put(connection, table, is_one, parts, (bool(rows), wanted))
            return True

        try:
            return bool(await self._database.changing(change))
        except Exception as error:
            cause = error.__cause__ or error
            if is_of_store(cause) and (kind_of(cause) is Kind.TAKEN or is_refused(cause)):
                name = self._database.name
                raise ProjectionError(f"{name} refuses the row {key!r}: {words(cause)}") from cause
            raise


async def _put(
    connection: AsyncConnection,
    table: sa.Table,
    is_one: sa.ColumnElement[bool],
    parts: Key,
    change: tuple[bool, Mapping[str, Any] | None],
) -> None:
    is_there, wanted = change
    if wanted is None:
        await connection.execute(sa.delete(table).where(is_one))
        return
    values = {name: wanted[name] for name in written(table)}
    if is_there:
        await connection.execute(sa.update(table).where(is_one).values(values))
        return
    own = zip(table.primary_key.columns, parts, strict=True)
    whole = {**{column.name: part for column, part in own}, **values}
    await connection.execute(sa.insert(table).values(whole))


def _rows(table: sa.Table) -> sa.Select[Any]:
    return sa.select(*_wanted(table))


def _wanted(table: sa.Table) -> list[Any]:
    return [*table.primary_key.columns, *(table.columns[name] for name in written(table))]


def _document(table: sa.Table, row: Sequence[Any]) -> Document:
    width = len(table.primary_key.columns)
    values = zip(written(table), row[width:], strict=True)
    return {"_id": key_of(table, row[:width]), **dict(values)}

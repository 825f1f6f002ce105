"""Many rows that are added or, where they are there already, changed, by few statements."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.common.batches import batched

TOGETHER = 50
LARGE = 100_000
"""Rows in a statement that MySQL's driver does not cut itself, and the characters or bytes of a
value from which on a row goes alone: servers take 16 MiB at once, or more."""


async def upsert(
    connection: AsyncConnection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    changed: Callable[[Any], dict[str, Any]],
) -> None:
    """Adds rows; `changed` returns, by the columns of one that was given, what becomes of one that
    is there. Raises: the driver's errors."""
    if connection.dialect.name != "postgresql":
        await merge(
            connection,
            table,
            rows,
            lambda insert: insert.on_duplicate_key_update(changed(insert.inserted)),
        )
        return
    insert = postgresql.insert(table)
    key = list(table.primary_key.columns)
    update = insert.on_conflict_do_update(index_elements=key, set_=changed(insert.excluded))
    await at_once(connection, table, update, rows)


async def merge(
    connection: AsyncConnection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    otherwise: Callable[[mysql.Insert], mysql.Insert],
) -> int:
    """Adds rows; `otherwise` completes the statement by what becomes of those that are there.

    Returns how many rows were added, and twice how many were changed. Raises: the driver's errors.
    """
    if getattr(connection.dialect, "is_mariadb", False):  # its driver sends one statement
        done = await connection.execute(
            otherwise(mysql.insert(table)),
            rows,
            execution_options={"preserve_rowcount": True},
        )
        return done.rowcount
    count = 0
    # Of MySQL's way to name the new row the driver knows nothing, and would send row by row.
    for size, alike in groupby(rows, _together):
        for some in batched(alike, size):
            done = await connection.execute(otherwise(mysql.insert(table).values(some)))
            count += done.rowcount
    return count


async def at_once(
    connection: AsyncConnection,
    table: sa.Table,
    insert: Any,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Adds rows by a statement for many. Raises: the driver's errors."""
    if connection.dialect.name == "postgresql":
        # Else the driver sends the rows one after the other, and a process that freezes among them
        # is no idle one for the server: it would keep its locks for as long as it is frozen.
        insert = insert.returning(next(iter(table.primary_key.columns)))
    await connection.execute(insert, rows)


def _together(row: Mapping[str, Any]) -> int:
    sized = (value for value in row.values() if isinstance(value, str | bytes))
    return 1 if any(len(value) > LARGE for value in sized) else TOGETHER

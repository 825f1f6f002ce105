"""Rows that are added or, where they are there already, changed: in MariaDB and MySQL."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.common.batches import batched

TOGETHER = 50
"""Rows in a statement that MySQL's driver does not cut itself: of a megabyte each, they still are
fewer bytes than the server takes at once (64 MiB)."""


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
    for some in batched(rows, TOGETHER):
        done = await connection.execute(otherwise(mysql.insert(table).values(some)))
        count += done.rowcount
    return count

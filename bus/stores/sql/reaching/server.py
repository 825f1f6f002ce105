"""What a database server is, and what its user may do there. Changes nothing."""

from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.errors import NotAllowed
from bus.observe.health import Finding, fine, of_problem, warning
from bus.stores.sql.engine import Database

OLDEST = {"PostgreSQL": (15,), "MariaDB": (10, 11), "MySQL": (8,)}
"""The first releases that the tests have run with, and MySQL's first that can be used."""


async def server_of(database: Database) -> Finding:
    """Returns which server it is. Raises: StoreUnavailable."""

    async def ask(connection: AsyncConnection) -> list[int]:
        return [int(part) for part in (connection.dialect.server_version_info or ())[:2]]

    number = tuple(await database.reading(ask))
    shown = f"{database.name} {'.'.join(map(str, number))}"
    oldest = OLDEST.get(database.name, ())
    if number[: len(oldest)] >= oldest:
        return fine(shown)
    return warning(
        f"{shown} is older than {'.'.join(map(str, oldest))}, the first release that this one was "
        f"tested with",
        "update it",
    )


async def rights_in(database: Database, tables: Iterable[sa.Table]) -> list[Finding]:
    """Returns whether the user may read and write the tables, by statements that change no row.

    Raises: StoreUnavailable.
    """
    lacking = [
        finding
        for table in tables
        for statement in _statements(table)
        if (finding := await _refused(database, statement))
    ]
    return lacking[:1] or [fine(f"the user of {database.name} may read and write its tables")]


async def _refused(database: Database, statement: sa.Executable) -> Finding | None:
    try:
        await database.write(statement)
    except NotAllowed as error:
        return of_problem(str(error), promise="G1")
    return None


def _statements(table: sa.Table) -> Iterator[sa.Executable]:
    columns = [column for column in table.columns if column.identity is None]
    none = sa.select(*columns).where(sa.false())
    yield sa.insert(table).from_select([column.name for column in columns], none)
    yield sa.update(table).where(sa.false()).values({columns[0]: columns[0]})
    yield sa.delete(table).where(sa.false())

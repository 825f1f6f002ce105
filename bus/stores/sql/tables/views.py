"""The projection's name as a view of the table that readers read, changed in one step."""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import code_of, said
from bus.stores.sql.tables.making import tables
from bus.stores.sql.tables.refusals import is_refused

_POSTGRESQL = sa.text(
    "SELECT kind.relkind, CASE WHEN kind.relkind = 'v' THEN pg_get_viewdef(kind.oid) END, "
    "array(SELECT attname::text FROM pg_attribute WHERE attrelid = kind.oid AND attnum > 0 "
    "AND NOT attisdropped ORDER BY attnum) FROM pg_class AS kind "
    "JOIN pg_namespace AS schema ON schema.oid = kind.relnamespace "
    "WHERE schema.nspname = current_schema() AND kind.relname = :name"
)
_MYSQL = sa.text(
    "SELECT IF(found.table_type = 'VIEW', 'v', 'r'), own.view_definition, '' "
    "FROM information_schema.tables AS found LEFT JOIN information_schema.views AS own "
    "ON own.table_schema = found.table_schema AND own.table_name = found.table_name "
    "WHERE found.table_schema = database() AND found.table_name = :name"
)
_GRANTS = sa.text(
    "SELECT grantee, privilege_type, is_grantable FROM information_schema.role_table_grants "
    "WHERE table_schema = current_schema() AND table_name = :name AND grantee <> current_user"
)


_OTHER_COLUMNS, _STANDS_ON_IT = "42P16", "2BP01"
"""PostgreSQL replaces no view by one whose columns have other names or types, and drops none on
which others stand."""


class Views:
    """The views of one sink's database."""

    def __init__(self, database: Database, service: str) -> None:
        self._database = database
        self._service = service

    async def show(self, name: str, table: sa.Table | None) -> str | None:
        """Does what `Place.show` says."""

        async def change(connection: AsyncConnection) -> str | None:
            return await self._show(connection, name, table)

        try:
            problem: str | None = await self._database.changing(change)
        except OutcomeUnknown as error:  # showing it again does no harm
            raise StoreUnavailable(str(error)) from error
        except Exception as error:
            cause = error.__cause__ or error
            if not is_refused(cause) and code_of(cause) != _STANDS_ON_IT:
                raise
            return (
                f"the view {name} cannot be changed: {said(cause)}; see whether other views stand "
                f"on it, and drop those"
            )
        return problem

    async def _show(
        self, connection: AsyncConnection, name: str, table: sa.Table | None
    ) -> str | None:
        quote = connection.dialect.identifier_preparer.quote
        is_postgresql = connection.dialect.name == "postgresql"
        found = await connection.execute(_POSTGRESQL if is_postgresql else _MYSQL, {"name": name})
        there: Any = found.one_or_none()
        own = await self._own(connection, name)
        if there is not None and not _is_ours(there, name, own):
            return (
                f"something else than a view of the projection has the name {name} in this "
                f"database; rename or drop it"
            )
        if table is None:
            if there is not None:
                await connection.exec_driver_sql(f"DROP VIEW {quote(name)}")
            return None
        if there is not None and _read_by(there[1]) == table.name:
            return None
        await self._replace(connection, name, table, there)
        return None

    async def _replace(
        self, connection: AsyncConnection, name: str, table: sa.Table, there: Any
    ) -> None:
        quote = connection.dialect.identifier_preparer.quote
        columns = ", ".join(quote(column.name) for column in table.columns)
        view = f"VIEW {quote(name)} AS SELECT {columns} FROM {quote(table.name)}"
        if connection.dialect.name != "postgresql":
            await connection.exec_driver_sql(f"CREATE OR REPLACE {view}")
            return
        # Behind one who reads for long, all who come later would wait for as long as this does.
        await connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
        await connection.exec_driver_sql("SAVEPOINT replacing")
        try:
            await connection.exec_driver_sql(f"CREATE OR REPLACE {view}")
        except DBAPIError as error:
            if there is None or code_of(error) != _OTHER_COLUMNS:
                raise
            await connection.exec_driver_sql("ROLLBACK TO replacing")
            await self._make_anew(connection, name, view)

    async def _make_anew(self, connection: AsyncConnection, name: str, view: str) -> None:
        """Makes a view with other columns, and lets those read it who could before."""
        quote = connection.dialect.identifier_preparer.quote
        grants = (await connection.execute(_GRANTS, {"name": name})).all()
        await connection.exec_driver_sql(f"DROP VIEW {quote(name)}")
        await connection.exec_driver_sql(f"CREATE {view}")
        for grantee, right, may_grant in grants:
            to = "PUBLIC" if grantee == "PUBLIC" else quote(grantee)
            further = " WITH GRANT OPTION" if may_grant == "YES" else ""
            await connection.exec_driver_sql(f"GRANT {right} ON {quote(name)} TO {to}{further}")

    async def _own(self, connection: AsyncConnection, name: str) -> Sequence[str]:
        """Returns the names of this projection's tables."""
        found = sa.select(tables.c.collection, tables.c.name).where(
            tables.c.service == self._service
        )
        rows = await connection.execute(found)
        return [own for collection, own in rows if collection.rpartition("__v")[0] == name]


def _is_ours(there: Any, name: str, own: Sequence[str]) -> bool:
    kind, definition = there[0], there[1]
    read = _read_by(definition)
    is_one = read in own or re.fullmatch(rf"{re.escape(name)}__v\d+(r\d+)?", read)
    return kind in ("v", b"v") and bool(is_one)


def _read_by(definition: str | None) -> str:
    """Returns the table that a view reads, which is the last word of its definition."""
    last = (definition or "").rstrip(" ;\n").rpartition(" ")[2]
    return last.rpartition(".")[2].strip('`"')

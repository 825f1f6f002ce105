"""The fence of a log: triggers, so that the server itself refuses commits, and marks of what
handlers with a session did. Updates pass: that commits were published is still noted."""

import asyncio
import json
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from bus.common import clock
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import (
    FENCED,
    FENCED_NUMBER,
    Kind,
    bounded,
    is_of_store,
    kind_of,
    translated,
)

COMMITS = "bus_commits"
TABLES = ("bus_handled", COMMITS)
"""The commits last, because they tell whether there is a fence."""

FENCE = "bus_fence"
NOTE = "commits/fence"
"""The key of the note in which MariaDB and MySQL tell of a fence."""
PASSING = "doubledecker.passing"
"""What lets a statement pass: a variable of MySQL's session, and of PostgreSQL's transaction."""

WITHIN = 60.0
"""Seconds: transactions that are held open hold up a fence."""


@asynccontextmanager
async def passing(connection: AsyncConnection) -> AsyncIterator[None]:
    """Lets statements of a transaction pass the fence. Raises: the driver's errors."""
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(f"SELECT set_config('{PASSING}', 'on', true)")
        yield
        return
    await connection.exec_driver_sql(f"SET @{FENCE} = 'passed'")
    try:
        yield
    finally:
        # It would outlive the transaction, and the next one on this connection is not ours.
        await connection.exec_driver_sql(f"SET @{FENCE} = NULL")


class Fence:
    """The fence of one log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_postgresql = database.engine.dialect.name == "postgresql"

    async def reason(self) -> str:
        """Returns why it is fenced; empty if it is not. Raises: StoreUnavailable."""
        ask = _postgresql_reason if self._is_postgresql else _mysql_reason
        reason: str = await self._database.reading(ask)
        return reason

    async def set(self, reason: str) -> None:
        """Raises: StoreUnavailable, OutcomeUnknown."""
        statements = _postgresql(reason) if self._is_postgresql else _mysql(reason)
        await self._change(statements)

    async def lift(self) -> None:
        """Raises: StoreUnavailable, OutcomeUnknown."""
        await self._change(_postgresql() if self._is_postgresql else _mysql())

    async def _change(self, statements: list[str]) -> None:
        async def change(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.exec_driver_sql(statement)

        await self._once_free(change)

    async def _once_free(self, change: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        """Changes the tables, as soon as no transaction holds them."""
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                async with bounded(WITHIN), self._database.transaction() as connection:
                    await change(connection)
                    return
            except Exception as error:
                if not is_of_store(error):
                    raise
                if kind_of(error) is not Kind.AGAIN or time.monotonic() > deadline:
                    raise translated(self._database.name, error, writing=True) from error
            await asyncio.sleep(clock.jittered(0.1))


def _postgresql(reason: str = "") -> list[str]:
    """Returns the statements for a fence, or without a reason for none."""
    statements = [
        f"CREATE OR REPLACE FUNCTION {FENCE}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'the log is fenced' USING ERRCODE = '{FENCED}'; END $$"
    ]
    quoted = reason.replace("'", "''")
    for table in TABLES:
        statements.append(f"DROP TRIGGER IF EXISTS {FENCE} ON {table}")
        if reason:
            statements += [
                f"CREATE TRIGGER {FENCE} BEFORE INSERT ON {table} FOR EACH STATEMENT "
                f"WHEN (current_setting('{PASSING}', true) IS DISTINCT FROM 'on') "
                f"EXECUTE FUNCTION {FENCE}()",
                f"COMMENT ON TRIGGER {FENCE} ON {table} IS '{quoted}'",
            ]
    return statements if reason else statements[1:]


async def _postgresql_reason(connection: AsyncConnection) -> str:
    found = await connection.exec_driver_sql(
        "SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger "
        f"WHERE tgname = '{FENCE}' AND tgrelid = to_regclass('{COMMITS}')"
    )
    return found.scalar() or ""


def _mysql(reason: str = "") -> list[str]:
    """Returns the statements for a fence, or without a reason for none. The reason stands in the
    trigger's text, in characters that need no quotes; and, because a trigger is shown to those
    alone who may make some, in a note, which is there before the fence and goes after it."""
    coded = b64encode(reason.encode()).decode()
    noted = json.dumps({"reason": coded})
    statements = ["SET SESSION lock_wait_timeout = 4"]
    if reason:
        statements.append(
            f"REPLACE INTO bus_notes (`key`, revision, value) VALUES ('{NOTE}', 1, '{noted}')"
        )
    for table in TABLES:
        statements.append(f"DROP TRIGGER IF EXISTS {table}_fence")
        if reason:
            statements.append(
                f"CREATE TRIGGER {table}_fence BEFORE INSERT ON {table} FOR EACH ROW "
                f"IF @{FENCE} IS NULL AND '{coded}' <> '' THEN SIGNAL SQLSTATE '45000' "
                f"SET MYSQL_ERRNO = {FENCED_NUMBER}, MESSAGE_TEXT = 'the log is fenced'; END IF"
            )
    if not reason:
        statements.append(f"DELETE FROM bus_notes WHERE `key` = '{NOTE}'")
    return [*statements, "SET SESSION lock_wait_timeout = @@GLOBAL.lock_wait_timeout"]


async def _mysql_reason(connection: AsyncConnection) -> str:
    found = await connection.exec_driver_sql(
        "SELECT action_statement FROM information_schema.triggers "
        f"WHERE trigger_schema = DATABASE() AND trigger_name = '{COMMITS}_fence'"
    )
    if text := found.scalar():
        return b64decode(str(text).split("'")[1]).decode()
    noted = await connection.exec_driver_sql(f"SELECT value FROM bus_notes WHERE `key` = '{NOTE}'")
    value = noted.scalar()
    return b64decode(json.loads(value)["reason"]).decode() if value else ""

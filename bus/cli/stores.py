"""`bus stores`: the tables of an event log in SQL: makes them, brings them up to date, checks them.

Exit status: 0 done, 1 something is missing, 2 wrong usage.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bus.cli.loading import load
from bus.cli.running import Json, Target, guarded
from bus.cli.tables import cell, print_json
from bus.common import clock
from bus.errors import ConfigurationError
from bus.settings import Settings

if TYPE_CHECKING:
    from bus.stores.sql.migrations import Migrations

Result = TypeVar("Result")

app = typer.Typer(
    name="stores",
    help="Makes and checks the tables of an event log in SQL (BUS_LOG_URL).",
    no_args_is_help=True,
)


class DatabaseKind(StrEnum):
    """The databases whose tables differ."""

    POSTGRESQL = "postgresql"
    MARIADB = "mariadb"
    MYSQL = "mysql"


@app.command()
def create(target: Target) -> None:
    """Makes the tables, as a user who may; they stay as they are if they are there."""

    async def make(migrations: "Migrations") -> int:
        await migrations.create()
        return await migrations.version()

    print(f"the tables are there, in version {_asked(target, make)}")


@app.command()
def upgrade(target: Target) -> None:
    """Brings tables that an earlier release made to this one's version."""

    async def bring(migrations: "Migrations") -> tuple[int, int]:
        return await migrations.upgrade(), await migrations.version()

    before, now = _asked(target, bring)
    done = "they had that already" if before == now else f"from {before}"
    print(f"the tables are there, in version {now} ({done})")


@app.command()
def check(target: Target, as_json: Json = False) -> None:
    """Says whether the tables are there and are those of this release; exits with 1 if not."""

    async def look(migrations: "Migrations") -> tuple[int, list[str]]:
        return await migrations.version(), await migrations.problems()

    version, problems = _asked(target, look)
    if as_json:
        print_json({"version": version, "problems": problems})
    else:
        print("\n".join(map(cell, problems)) or f"the tables are there, in version {version}")
    if problems:
        raise typer.Exit(1)


@app.command()
def sql(database: Annotated[DatabaseKind, typer.Argument(help="whose SQL it is to be")]) -> None:
    """Prints what `create` does, for those who run it themselves. Needs no database."""

    def print_statements() -> None:
        from bus.stores.sql.schema import dialect_of, statements

        for statement in statements(dialect_of(database.value), clock.now()):
            print(f"{statement};")

    guarded(print_statements)


def _asked(target: str, ask: Callable[["Migrations"], Awaitable[Result]]) -> Result:
    """Returns what is asked of the tables of a service's log."""

    async def whole(url: str) -> Result:
        from bus.stores.sql import tables

        async with tables(url) as migrations:
            return await ask(migrations)

    def run() -> Result:
        settings = load(target, Settings).runtime.settings
        if not settings.log_url:
            raise ConfigurationError(
                f"{target}: BUS_LOG_URL is not set, so that its event log is in MongoDB and has no "
                f"tables; set it to the URL of the log's database"
            )
        return asyncio.run(whole(settings.log_url))

    return guarded(run)

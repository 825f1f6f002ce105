"""`bus stores`: where the event log is: the tables in SQL, and moving it to another database.

Exit status: 0 done, 1 something is missing, 2 wrong usage.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bus.bus import Bus
from bus.cli.loading import load
from bus.cli.running import Json, Target, guarded
from bus.cli.tables import cell, print_json, print_progress
from bus.common import clock
from bus.errors import ConfigurationError, OutcomeUnknown, Unavailable
from bus.operate.log_copy import LogCopied, LogCopy
from bus.operate.log_place import IN_MONGODB, log_at
from bus.recovery.losses import time_limits
from bus.settings import Settings

if TYPE_CHECKING:
    from bus.stores.sql.migrations import Migrations

Result = TypeVar("Result")

PLACE = (
    "where the log is: mongodb (that of BUS_MONGO_URL), a URL as BUS_LOG_URL takes it, or the name "
    "of an environment variable that holds one"
)

app = typer.Typer(
    name="stores",
    help="Makes and checks the tables of an event log in SQL (BUS_LOG_URL), and moves a log to "
    "another database.",
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
def sql(
    database: Annotated[DatabaseKind, typer.Argument(help="whose SQL it is to be")],
    since: Annotated[
        int, typer.Option(help="the version of the tables that are there, for what `upgrade` does")
    ] = 0,
) -> None:
    """Prints what `create` does, for those who run it themselves. Needs no database."""

    def print_statements() -> None:
        from bus.stores.sql.schema import VERSION, dialect_of, statements

        if not 0 <= since <= VERSION:
            raise ConfigurationError(
                f"--since {since}: this release knows the versions 1 to {VERSION} of the tables; "
                f"`bus stores check` says which is there"
            )
        for statement in statements(dialect_of(database.value), clock.now(), since):
            print(f"{statement};")

    guarded(print_statements)


@app.command()
def copy(
    target: Target,
    origin: Annotated[str, typer.Argument(metavar="FROM", help=PLACE)],
    to: Annotated[str, typer.Argument(metavar="TO", help="the place to which it goes, likewise")],
    finish: Annotated[
        bool, typer.Option("--finish", help="move the log: TO takes commands, FROM none any more")
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="give the move up, if TO has taken nothing yet")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Copies the event log to another database, while the service works, and moves it there.

    It goes on where it was, as often as it is run, until the copy is seconds behind. With --finish,
    all is compared, FROM is fenced, the rest is copied and compared, and TO takes commands: then
    start all processes with their log there. Exits with 1 if the logs differ: FROM goes on.
    """
    if finish and abandon:
        raise typer.BadParameter("give --finish or --abandon, not both")
    if finish and not yes:
        typer.confirm(
            f"From the end of the copy on, {cell(_shown(origin))} takes no commands: those of all "
            f"running processes wait or fail, until they are started with their log at "
            f"{cell(_shown(to))}. Move it?",
            abort=True,
            err=True,
        )
    progress = _Progress()

    async def whole(bus: Bus) -> LogCopied:
        async with log_at(bus, origin, makes=False) as old, log_at(bus, to, makes=True) as new:
            longest = max(time_limits(bus.runtime).values(), default=0.0)
            copying = LogCopy(bus.service, old, new, progress.reached, time_limit=longest)
            act = copying.finish if finish else copying.abandon if abandon else copying.follow
            return await act()

    found = guarded(lambda: asyncio.run(_told(whole(load(target, Settings)))))
    if as_json:
        print_json(found._asdict())
    else:
        print(_outcome(found, _shown(to)))


async def _told(copying: Awaitable[LogCopied]) -> LogCopied:
    """Awaits a copy; if it ends on the way, says how to go on."""
    try:
        return await copying
    except (Unavailable, OutcomeUnknown, asyncio.CancelledError):
        print("what is copied stays; run it again, and it goes on from there", file=sys.stderr)
        raise


def _shown(place: str) -> str:
    """Returns a place without its user and password."""
    scheme, slashes, rest = place.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def _outcome(found: LogCopied, to: str) -> str:
    match found.state:
        case "moved":
            counted = (
                f"{found.copied} commits copied now, all compared; no commands were taken for "
                f"{found.fenced:.1f} s, and are again as soon as processes are started there\n"
                if found.fenced
                else ""
            )
            setting = "without BUS_LOG_URL" if to == IN_MONGODB else f"with BUS_LOG_URL for {to}"
            return f"{counted}the log is at {to}: start all processes {setting}"
        case "stays":
            return "the log stays where it was, and takes commands; the copy takes none"
    return (
        f"{found.copied} commits copied; the copy at {to} is seconds behind: run this again to "
        f"keep it so, and with --finish to move the log"
    )


class _Progress:
    """How far a copy has come; drawn for each of its phases."""

    def __init__(self) -> None:
        self._phase = ""
        self._began = 0.0

    def reached(self, phase: str, done: int, of: int) -> None:
        if phase != self._phase:
            self._phase, self._began = phase, time.monotonic()
            if sys.stderr.isatty():
                print(phase, file=sys.stderr)
        if of:
            print_progress(done, of, time.monotonic() - self._began)


def _asked(target: str, ask: Callable[["Migrations"], Awaitable[Result]]) -> Result:
    """Returns what is asked of the tables of a service's log."""

    async def whole(url: str) -> Result:
        from bus.stores.sql import migrating

        async with migrating(url) as migrations:
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

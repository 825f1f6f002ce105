"""The service whose events are projected into a table, and how its rows ought to be in the end."""

import os

import sqlalchemy as sa

from bench import side
from bench.projecting.backlog import Backlog
from bench.projecting.race import WITHIN
from bench.projecting.service import kept_by
from bench.side import Arguments
from bus import Bus, Settings
from bus.stores.sql import SqlTable
from tools.services import statements

TABLE = sa.Table(
    "views",
    sa.MetaData(),
    sa.Column("id", sa.String(50), primary_key=True),
    sa.Column("events", sa.Integer, nullable=False, default=0),
    sa.Column("owner", sa.String(50)),
    sa.Column("note", sa.String(500)),
)


def url_of(arguments: Arguments) -> str:
    return os.environ[f"BENCH_{arguments['database'].upper()}_URL"]


def build(arguments: Arguments) -> Bus:
    """As `bench/projecting` has it, in a table."""
    views = kept_by(SqlTable(TABLE, url=url_of(arguments)), arguments["kind"])
    return Bus(arguments["service"], projections=[views], settings=Settings())


async def until_rows_are(arguments: Arguments, backlog: Backlog) -> None:
    """Waits until all rows are as the backlog makes them, under the name that readers know."""
    ask = f"SELECT count(*) FROM views WHERE events = {backlog.of_a_document}"
    with statements.connected(url_of(arguments)) as connection:

        async def are() -> bool:
            try:
                ((count,),) = connection.run(ask)
            except statements.REFUSALS:  # no worker has shown them yet
                return False
            return bool(count == backlog.documents)

        await side.until(are, "rows are not as the backlog makes them", WITHIN)

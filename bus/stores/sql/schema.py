"""The tables of a log in SQL: what they are, which version of them is there, how they come to be.

Identifiers are compared byte by byte, whatever the server's collation is, and are not padded: case
and spaces at the end differ. JSON is the database's own, so that it can be queried. Other tables in
the database are left alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable

VERSION = 2

WORD, STREAM = 255, 500
"""Characters of ids and names, and of streams. MySQL's indexes hold 768 characters at most."""


class Word(sa.types.UserDefinedType[str]):
    """Text that is compared byte by byte."""

    cache_ok = True

    def __init__(self, length: int = WORD) -> None:
        self.length = length


class Json(sa.JSON):
    """JSON as the database stores it: without loss of digits, and however deeply it is nested."""

    cache_ok = True


class Moment(sa.types.TypeDecorator[datetime]):
    """A time in UTC, in whole milliseconds."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        if dialect.name == "postgresql":
            return postgresql.TIMESTAMP(timezone=True, precision=3)
        return mysql.DATETIME(fsp=3)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return value
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _is_postgresql(compiler: Any) -> bool:
    return bool(compiler.dialect.name == "postgresql")


def _is_mariadb(compiler: Any) -> bool:
    return bool(getattr(compiler.dialect, "is_mariadb", False))


@compiles(Word)
def _word(type: Word, compiler: Any, **_: Any) -> str:
    if _is_postgresql(compiler):
        return 'TEXT COLLATE "C"'
    collation = "utf8mb4_nopad_bin" if _is_mariadb(compiler) else "utf8mb4_0900_bin"
    return f"VARCHAR({type.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


@compiles(Json)
def _json(type: Json, compiler: Any, **_: Any) -> str:
    # PostgreSQL's jsonb changes numbers and refuses \u0000. MariaDB's JSON is this very type with a
    # check, which refuses what is nested more than 31 levels deep: less than a message may be.
    if _is_mariadb(compiler):
        return "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    return "JSON"


metadata = sa.MetaData()
NOT_IN, POSTGRESQL, MYSQL = "not in", {"postgresql"}, {"mysql", "mariadb"}
_INNODB: dict[str, Any] = {
    f"{name}_{option}": value
    for name in sorted(MYSQL)
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("row_format", "DYNAMIC"))
}


def innodb() -> dict[str, Any]:
    """Returns the options of a table in MariaDB and MySQL."""
    return dict(_INNODB)


commits = sa.Table(
    "bus_commits",
    metadata,
    sa.Column(
        "number", sa.BigInteger, sa.Identity(always=True), primary_key=True, autoincrement=True
    ),
    sa.Column("id", Word(), nullable=False),
    sa.Column("stream", Word(STREAM), nullable=False),
    sa.Column("category", Word(), nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("time", Moment, nullable=False),
    sa.Column("correlation_id", Word(), nullable=False),
    sa.Column("causation_id", Word()),
    sa.Column("message", Word(), nullable=False),
    sa.Column("digest", Word(), nullable=False),
    sa.Column("headers", Json),
    sa.Column("events", Json, nullable=False),
    sa.Column("outgoing", Json),
    sa.Column("result", Json),
    sa.Column("pending", sa.Boolean(create_constraint=False)),
    **_INNODB,
)
"""A row for each commit; `number` is the order in which rows were begun. `pending` is true until
the commit is published, and null after that."""
IDS = sa.Index("bus_commits_id", commits.c.id, unique=True)
PLACES = sa.Index("bus_commits_place", commits.c.stream, commits.c.first, unique=True)
TIMES = sa.Index(
    "bus_commits_time", commits.c.category, commits.c.time, commits.c.first, commits.c.number
)
PENDING = sa.Index(
    "bus_commits_pending", commits.c.pending, commits.c.time, info={NOT_IN: POSTGRESQL}
)
PARTLY_PENDING = sa.Index(
    "bus_commits_pending",
    commits.c.time,
    postgresql_where=commits.c.pending,
    info={NOT_IN: MYSQL},
)
"""On PostgreSQL, the index holds only what is pending."""

snapshots = sa.Table(
    "bus_snapshots",
    metadata,
    sa.Column("stream", Word(STREAM), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("shape", Word(), nullable=False),
    sa.Column("state", Json, nullable=False),
    **_INNODB,
)
"""A cache, which may be dropped."""

states = sa.Table(
    "bus_states",
    metadata,
    sa.Column("stream", Word(STREAM), primary_key=True),
    sa.Column("category", Word(), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("shape", Word(), nullable=False),
    sa.Column("state", Json, nullable=False),
    sa.Column("places", Json),
    sa.Column("indexes", sa.BigInteger),
    sa.Column("indexed", sa.BigInteger),
    sa.Column(
        "found_by",
        sa.BigInteger,
        sa.Computed("CASE WHEN indexed = version THEN indexes ELSE 0 END", persisted=True),
    ),
    sa.Index("bus_states_category", "category", "stream"),
    **_INNODB,
)
"""The states of aggregates that are stored by their state.

`places` has for each indexed field where the state is found by it: these are its rows in
`bus_state_fields`, as of version `indexed`. `indexes` is a digest of shape and indexed fields, and
`found_by` is the same, or 0 if they are those of another version: then a process of a release that
knows no places has written the state since."""
FOUND = sa.Index("bus_states_found", states.c.category, states.c.found_by, states.c.stream)

state_fields = sa.Table(
    "bus_state_fields",
    metadata,
    sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column(
        "stream",
        Word(STREAM),
        sa.ForeignKey(states.c.stream, name="bus_state_fields_state", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Index("bus_state_fields_stream", "stream"),
    **_INNODB,
)
"""Where states are found: a row for each value of an indexed field, by a digest of category, field
and value."""

versions = sa.Table(
    "bus_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("made", Moment, nullable=False),
    **_INNODB,
)
"""A row for each version of the tables that was made here."""

UNIQUE = frozenset({IDS.name, PLACES.name})
"""The indexes without which two commits could take one place."""

STEPS: dict[int, Sequence[sa.Table | sa.Index | sa.Column[Any]]] = {
    2: (*(states.c[name] for name in ("places", "indexes", "indexed", "found_by")),
        FOUND, state_fields, *state_fields.indexes),
}  # fmt: skip
"""What a version has beside that of the version before it, in the order in which it is made."""


class AddColumn(sa.schema.ExecutableDDLElement):
    """Adds a column to a table that is there."""

    def __init__(self, column: sa.Column[Any]) -> None:
        self.column = column


@compiles(AddColumn)
def _add_column(element: AddColumn, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.column.table)
    return f"ALTER TABLE {table} ADD COLUMN {compiler.get_column_specification(element.column)}"


def made_by(thing: sa.Table | sa.Index | sa.Column[Any]) -> sa.schema.ExecutableDDLElement:
    """Returns the statement that makes a table, an index or a column."""
    if isinstance(thing, sa.Table):
        return CreateTable(thing)
    return CreateIndex(thing) if isinstance(thing, sa.Index) else AddColumn(thing)


def dialect_of(name: str) -> sa.Dialect:
    """Returns the dialect of a database, by its name, to print what is made there."""
    if name == "postgresql":
        return postgresql.dialect()  # type: ignore[no-untyped-call]
    return mysql.dialect(is_mariadb=name == "mariadb")


def is_for(thing: sa.Table | sa.Index | sa.Column[Any], dialect: sa.Dialect) -> bool:
    """Returns whether something of the tables is made in a database."""
    return dialect.name not in thing.info.get(NOT_IN, ())


def things(dialect: sa.Dialect) -> Iterator[sa.Table | sa.Index]:
    """Yields the tables and indexes that are made in a database."""
    for table in metadata.sorted_tables:
        yield table
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if is_for(index, dialect):
                yield index


def statements(dialect: sa.Dialect, at: datetime, since: int = 0) -> Iterator[str]:
    """Yields all that is made, or what the versions after `since` have besides, as SQL; and at the
    end of each the row that says so."""
    if not since:
        yield from _made(things(dialect), dialect, VERSION, at)
    for version in range(since + 1, VERSION + 1) if since else ():
        made = [thing for thing in STEPS[version] if is_for(thing, dialect)]
        yield from _made(made, dialect, version, at)


def _made(
    things: Iterable[sa.Table | sa.Index | sa.Column[Any]],
    dialect: sa.Dialect,
    version: int,
    at: datetime,
) -> Iterator[str]:
    for thing in things:
        yield str(made_by(thing).compile(dialect=dialect)).strip()
    made_at = f"{at:%Y-%m-%d %H:%M:%S}"
    yield f"INSERT INTO {versions.name} (version, made) VALUES ({version}, '{made_at}')"

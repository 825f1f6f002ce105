"""The tables of a log in SQL: what they are, which version of them is there, how they come to be.

Identifiers are compared byte by byte, whatever the server's collation is, and are not padded: case
and spaces at the end differ. JSON is the database's own, so that it can be queried. Other tables in
the database are left alone.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable

VERSION = 1

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
    sa.Index("bus_states_category", "category", "stream"),
    **_INNODB,
)
"""The states of aggregates that are stored by their state."""

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

STEPS: dict[int, Sequence[str]] = {}
"""What leads to a version from the one before it, as SQL; {} in the place of nothing."""


def dialect_of(name: str) -> sa.Dialect:
    """Returns the dialect of a database, by its name, to print what is made there."""
    if name == "postgresql":
        return postgresql.dialect()  # type: ignore[no-untyped-call]
    return mysql.dialect(is_mariadb=name == "mariadb")


def things(dialect: sa.Dialect) -> Iterator[sa.Table | sa.Index]:
    """Yields the tables and indexes that are made in a database."""
    for table in metadata.sorted_tables:
        yield table
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if dialect.name not in index.info.get(NOT_IN, ()):
                yield index


def statements(dialect: sa.Dialect, at: datetime) -> Iterator[str]:
    """Yields all that is made, as SQL, and at its end the row that says so."""
    for thing in things(dialect):
        made = CreateTable(thing) if isinstance(thing, sa.Table) else CreateIndex(thing)
        yield str(made.compile(dialect=dialect)).strip()
    made_at = f"{at:%Y-%m-%d %H:%M:%S}"
    yield f"INSERT INTO {versions.name} (version, made) VALUES ({VERSION}, '{made_at}')"

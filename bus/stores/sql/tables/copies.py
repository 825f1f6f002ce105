"""A declared table as one generation has it: under another name, with names of its own for all that
has one. And its shape, in words, to tell what is declared otherwise than it was made."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.sql import quoted_name

from bus.stores.sql.schema import innodb

LONGEST = 63
"""Bytes of a name: PostgreSQL cuts what is longer, MariaDB and MySQL refuse it (64 characters)."""


def short(name: str) -> str:
    """Returns a name that databases take: itself, or its beginning with a digest."""
    if len(name.encode()) <= LONGEST:
        return name
    digest = sha256(name.encode()).hexdigest()[:16]
    return f"{name.encode()[: LONGEST - 17].decode(errors='ignore')}_{digest}"


class Copies:
    """The copies of one declared table."""

    def __init__(self, declared: sa.Table) -> None:
        self.declared = declared
        self._by_name: dict[str, sa.Table] = {}

    def of(self, collection: str) -> sa.Table:
        """Returns the table of a collection: always the same one, so that statements are compiled
        once."""
        if collection not in self._by_name:
            self._by_name[collection] = _copy(self.declared, short(collection))
        return self._by_name[collection]

    def forget(self, collection: str) -> None:
        """Forgets the table of a collection that was dropped."""
        self._by_name.pop(collection, None)

    def __contains__(self, table: Any) -> bool:
        return any(table is copy for copy in self._by_name.values())

    def to_make(self, collection: str, dialect: sa.Dialect) -> sa.Table:
        """Returns the table as it is made on a server, so that all servers keep the same in it."""
        table = _copy(self.declared, short(collection))
        for column in table.columns:
            column.type = _made(column, dialect)
        return table


def _copy(declared: sa.Table, name: str) -> sa.Table:
    table = declared.to_metadata(sa.MetaData(), name=name)
    for option, value in innodb().items():
        table.kwargs.setdefault(option, value)
    for column in table.primary_key.columns:
        column.autoincrement = False
    for constraint in table.constraints - {table.primary_key}:
        if isinstance(constraint.name, str):
            constraint.name = quoted_name(short(f"{name}_{constraint.name}"), None)
    table.primary_key.name = quoted_name(short(f"{name}_pkey"), None)
    for column in table.columns:
        if isinstance(column.type, sa.JSON):  # None is no value, for whoever reads by SQL, too
            column.type = column.type.copy()
            column.type.none_as_null = True
    for index in table.indexes:
        of = "_".join(str(getattr(entry, "name", "x")) for entry in index.expressions)
        own = str(index.name or of).replace(f"ix_{name}_", "")
        index.name = quoted_name(short(f"{name}_{own}"), None)
    return table


_TIMES = {sa.DateTime, sa.DATETIME, sa.TIMESTAMP, sa.Interval}


def _made(column: sa.Column[Any], dialect: sa.Dialect) -> Any:
    kind: Any = column.type
    if column.primary_key and isinstance(kind, sa.String):
        return _compared_by_bytes(kind, dialect)
    if dialect.name == "postgresql":
        return kind
    if type(kind) in _TIMES:  # else whole seconds; and TIMESTAMP ends in 2038
        return mysql.DATETIME(fsp=6)
    if type(kind) in (sa.Time, sa.TIME):
        return mysql.TIME(fsp=6)
    if (
        type(kind) in (sa.Float, sa.FLOAT) and kind.precision is None
    ):  # else less exact than in PostgreSQL
        return mysql.DOUBLE()
    return kind


def _compared_by_bytes(kind: sa.String, dialect: sa.Dialect) -> Any:
    if dialect.name == "postgresql":
        return sa.VARCHAR(kind.length, collation="C") if kind.length else sa.TEXT(collation="C")
    is_mariadb = getattr(dialect, "is_mariadb", False)
    collation = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
    return mysql.VARCHAR(kind.length, charset="utf8mb4", collation=collation)


Shape = Mapping[str, str]
"""By the name of a column or an index, what it is; the primary key is under "primary key"."""


def shape_of(table: sa.Table, dialect: sa.Dialect) -> dict[str, str]:
    """Returns the shape of a table that is to be made."""
    shape = {
        f"column {column.name}": f"{column.type.compile(dialect=dialect)}"
        f"{'' if column.nullable else ' NOT NULL'}{_computed(column)}"
        for column in table.columns
    }
    shape["primary key"] = ", ".join(column.name for column in table.primary_key.columns)
    for index in table.indexes:
        of = ", ".join(str(entry) for entry in index.expressions)
        shape[_named(table, str(index.name))] = f"{'unique ' if index.unique else ''}({of})"
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            of = ", ".join(column.name for column in constraint.columns)
            shape[f"unique ({of})"] = "yes"
        elif isinstance(constraint, sa.CheckConstraint):
            shape[f"check {constraint.sqltext}"] = "yes"
    # The table's own name is part of expressions, and is another one in each generation.
    return {
        name.replace(f"{table.name}.", ""): what.replace(f"{table.name}.", "")
        for name, what in shape.items()
    }


def _computed(column: sa.Column[Any]) -> str:
    return f" AS ({column.computed.sqltext})" if column.computed is not None else ""


def _named(table: sa.Table, index: str) -> str:
    return f"index {index.removeprefix(f'{table.name}_')}"


def written(shape: Shape) -> str:
    """Returns a shape as text."""
    return json.dumps(dict(sorted(shape.items())))


def differences(collection: str, made: str, declared: Shape) -> Iterator[str]:
    """Yields what is declared otherwise than it was made, each with a remedy."""
    before: Shape = json.loads(made)
    for name in sorted({*before, *declared}):
        was, now = before.get(name), declared.get(name)
        if was != now:
            yield (
                f"{collection}: {name} is {_what(was)} in the table, and {_what(now)} in the "
                f"declaration; raise the projection's version=, and a table is built as declared"
            )


def _what(found: str | None) -> str:
    return "missing" if found is None else ("there" if found == "yes" else found)


def missing(connection: sa.Connection, table: sa.Table) -> list[str]:
    """Returns the columns and indexes that somebody has taken away since the table was made."""
    inspector = sa.inspect(connection)
    columns = {column["name"] for column in inspector.get_columns(table.name)}
    indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    return [
        *(f"column {column.name}" for column in table.columns if column.name not in columns),
        *(f"index {index.name}" for index in table.indexes if index.name not in indexes),
    ]

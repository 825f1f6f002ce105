"""A table that is declared as the sink of a projection. No I/O."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import UpdateBase

from bus.common.urls import Url, problem_of_log
from bus.errors import ConfigurationError, ProjectionError
from bus.stores.collections import Target
from bus.stores.sink import Increment, Lend, Remove, Sink, Upsert
from bus.stores.sql.tables import columns
from bus.stores.sql.tables.copies import Copies
from bus.stores.sql.tables.keys import key_from
from bus.stores.sql.tables.place import TablePlace, lend_session, lend_table

KEYS = (str, int, bool, Decimal, UUID, date, datetime)
"""What primary keys are made of: what databases and Python put into the same order."""
OWN = ("_id", "_hidden")
"""Names by which an audit calls something else."""


class SqlTable(Sink):
    """Keeps a projection in a table of PostgreSQL, MariaDB or MySQL.

        jobs = sa.Table(
            "jobs_table",
            sa.MetaData(),
            sa.Column("id", sa.String(100), primary_key=True),
            sa.Column("title", sa.String(500)),
            sa.Column("applications", sa.Integer, nullable=False, default=0),
        )
        projection = Projection("jobs_table", of=[Job], sink=SqlTable(jobs, url=...))

    `table` is a SQLAlchemy `Table`, or an ORM class, with the projection's name; `url` is written
    as BUS_LOG_URL is, or a function that returns it, called as a bus opens. Each generation of the
    projection has a table of its own, `jobs_table__v1` say, and a view has the projection's name.

    Handlers return `Upsert`, `Increment`, `Remove`, or statements of SQLAlchemy on the `Table` that
    they take as a parameter. A row's key is the text of its primary key, or, if that has several
    columns or no text, a tuple of their values. Queries take an `AsyncSession`, which only reads,
    and the `Table` that readers read. Raises: ConfigurationError.
    """

    kind = "table"
    changes = (Upsert, Increment, Remove, UpdateBase)

    def __init__(self, table: Any, *, url: Url) -> None:
        self.table = _declared(table)
        self._url = url
        if isinstance(url, str):
            _checked(self.table, url)
        elif not callable(url):
            raise ConfigurationError(
                f"SqlTable({self.table.name!r}): url= is {type(url).__name__}; give a text as for "
                f"BUS_LOG_URL, or a function that returns one"
            )
        self.keyed_by_id = _takes_text(self.table)
        self._copies = Copies(self.table)

    def problem_with(self, projection: str) -> str:
        if self.table.name == projection:
            return ""
        return (
            f"its table is declared as {self.table.name!r}; give both the same name, because "
            f"readers find the rows under the projection's"
        )

    def place(self, service: str) -> TablePlace:
        url = self._url if isinstance(self._url, str) else self._url()
        _checked(self.table, url)
        return TablePlace(self._copies, url, service)

    def check(self, key: Any, change: Any) -> None:
        if isinstance(change, UpdateBase):
            self._check_statement(change)
            return
        self._check_key(key)
        if isinstance(change, Upsert | Increment):
            columns.check(self.table, change)

    def _check_key(self, key: Any) -> None:
        named = list(self.table.primary_key.columns)
        if self.keyed_by_id:
            super().check(key, None)
            return
        kinds = [columns.python_type(column) or object for column in named]
        is_one = isinstance(key, tuple) and len(key) == len(named)
        if not is_one or not all(map(_is_of, key, kinds)):
            wanted = ", ".join(
                f"{column.name}: {kind.__name__}" for column, kind in zip(named, kinds, strict=True)
            )
            raise ProjectionError(
                f"the key of a row of {self.table.name!r} is a tuple ({wanted}), and it is "
                f"{_described(key)}"
            )

    def _check_statement(self, statement: UpdateBase) -> None:
        if statement.table not in self._copies:
            raise ProjectionError(
                f"a statement changes {statement.table.description!r}, and not the table that is "
                f"being built: take it as a parameter, (event, table: Table), and write it for that"
            )

    def key_from(self, text: str) -> Any:
        return text if self.keyed_by_id else key_from(self.table, text)

    def names_row(self, change: Any) -> bool:
        return not isinstance(change, UpdateBase)

    def lends(self) -> Mapping[type, Lend]:
        return {AsyncSession: lend_session, sa.Table: lend_table}

    def given(self) -> Mapping[type, Callable[[Target], Any]]:
        return {sa.Table: lambda target: self._copies.of(target.collection)}


def _declared(table: Any) -> sa.Table:
    found = getattr(table, "__table__", table)
    if not isinstance(found, sa.Table):
        raise ConfigurationError(
            f"SqlTable({table!r:.100}): it takes a SQLAlchemy Table, or an ORM class that has one"
        )
    if problem := _problem_of(found):
        raise ConfigurationError(f"SqlTable({found.name!r}): {problem}")
    return found


def _problem_of(table: sa.Table) -> str | None:
    """Returns why a table cannot be built beside another one of its kind, or None."""
    keys = list(table.primary_key.columns)
    if not keys:
        return "it has no primary key; declare the columns that say which row it is as one"
    if table.schema:
        return (
            f"it has the schema {table.schema!r}; leave that out, and give the URL's user a "
            f"search_path (PostgreSQL), or name the database in the URL"
        )
    if table.foreign_keys:
        return (
            "it has foreign keys: a table is built anew beside the old one, in its own time, and "
            "what they lead to is not; leave them out"
        )
    problems = (_column_problem(column) for column in table.columns)
    return next((problem for problem in problems if problem), None)


def _column_problem(column: sa.Column[Any]) -> str | None:
    where, kind = f"column {column.name!r}", column.type
    default: Any = column.default
    if column.key != column.name or column.name in OWN:
        return f"{where} has another key, or a name of the bus's own; call it by one name"
    if column.computed is None and (column.server_default is not None or column.identity):
        return (
            f"{where} has a value that the server gives; give it by default=, as in default=0, "
            f"which is the same whenever it is built"
        )
    if column.onupdate is not None or (
        default is not None and not getattr(default, "is_scalar", False)
    ):
        return (
            f"{where} has a default that is worked out, so that another build would have other "
            f"values; let handlers take it from the event"
        )
    if isinstance(kind, sa.Enum) and kind.native_enum:
        return f"{where} has a type of its own; write it as Enum(..., native_enum=False)"
    zoned = isinstance(kind, sa.DateTime) and kind.timezone
    if column.primary_key and (zoned or columns.python_type(column) not in KEYS):
        return (
            f"{where} is of the primary key and of type {kind!r}; a key is made of texts, whole or "
            f"decimal numbers, UUIDs, dates, and times without a zone (in UTC)"
        )
    return None


def _checked(table: sa.Table, url: str) -> None:
    """Raises: ConfigurationError if the table cannot be where the URL leads."""
    where = f"SqlTable({table.name!r}): url="
    if problem := problem_of_log(url):
        raise ConfigurationError(f"{where} {problem}")
    if url.startswith("postgresql"):
        return
    for column in table.columns:
        if columns.is_numeric(column) and columns.scale_of(column) is None:
            raise ConfigurationError(
                f"SqlTable({table.name!r}): column {column.name!r} has decimal numbers of no known "
                f"scale, of which MariaDB and MySQL keep ten whole digits and nothing behind the "
                f"point; write it as Numeric(38, 10), say"
            )
    for column in table.primary_key.columns:
        if isinstance(column.type, sa.String) and not column.type.length:
            raise ConfigurationError(
                f"SqlTable({table.name!r}): column {column.name!r} is of the primary key, which "
                f"has texts of a known length in MariaDB and MySQL; write it as String(255) (768 "
                f"characters at most for all of them)"
            )


def _takes_text(table: sa.Table) -> bool:
    keys = list(table.primary_key.columns)
    return len(keys) == 1 and columns.python_type(keys[0]) is str


def _is_of(value: Any, kind: type) -> bool:
    if kind in (int, date):  # True is an int, and a datetime a date
        return type(value) is kind
    return isinstance(value, kind) and value != ""


def _described(key: Any) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(type(part).__name__ for part in key)})"
    return f"{type(key).__name__}"

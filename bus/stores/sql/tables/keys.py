"""Rows found by their keys. A key is a text, or a tuple in the primary key's order."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from bus.errors import ProjectionError
from bus.stores.sql.tables.columns import python_type, stored

Key = tuple[Any, ...]

AT_ONCE = 1000
"""Keys in one question: databases bound the number of parameters."""


def parts_of(table: sa.Table, key: Any) -> Key:
    """Returns the values of the primary key, as they are stored."""
    parts = key if isinstance(key, tuple) else (key,)
    own = table.primary_key.columns
    if len(parts) != len(own):
        return parts
    return tuple(stored(column, part) for column, part in zip(own, parts, strict=True))


def key_of(table: sa.Table, parts: Sequence[Any]) -> Any:
    """Returns the key of a row, by the values of its primary key."""
    (first, *others) = table.primary_key.columns
    return parts[0] if not others and python_type(first) is str else tuple(parts)


def key_from(table: sa.Table, text: str) -> Key:
    """Returns the key that a JSON list of the primary key's values writes. Raises:
    ProjectionError."""
    kinds = [python_type(column) or str for column in table.primary_key.columns]
    try:
        parts = json.loads(text)
        if isinstance(parts, list):
            return tuple(_READ.get(kind, kind)(p) for kind, p in zip(kinds, parts, strict=True))
    except (ValueError, TypeError, ArithmeticError):
        pass
    named = zip(table.primary_key.columns, kinds, strict=True)
    wanted = ", ".join(f"{column.name}: {kind.__name__}" for column, kind in named)
    raise ProjectionError(
        f"a row of {table.name!r} is named by a JSON list of its primary key ({wanted}), as in "
        f'--document \'["a", "b"]\'; {text!r:.100} is none'
    )


_READ: Mapping[type, Callable[[Any], Any]] = {
    Decimal: lambda part: Decimal(str(part)),
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
}


def among(
    columns: Sequence[Any], keys: Sequence[Key], dialect: sa.Dialect
) -> sa.ColumnElement[bool]:
    """Returns a condition for the rows with these keys."""
    if len(columns) > 1:
        own = [
            [sa.literal(part, column.type) for column, part in zip(columns, key, strict=True)]
            for key in keys
        ]
        return sa.tuple_(*columns).in_([sa.tuple_(*parts) for parts in own])
    values = [key[0] for key in keys]
    if dialect.name != "postgresql":
        return columns[0].in_(values)  # type: ignore[no-any-return]
    # One parameter, so that the statement is the same however many there are.
    kind = sa.Text() if isinstance(columns[0].type, sa.String) else columns[0].type
    return columns[0] == sa.any_(sa.literal(values, postgresql.ARRAY(kind)))  # type: ignore[no-any-return]


def rows_of(
    wanted: Sequence[Any],
    columns: Sequence[Any],
    keys: Sequence[Key],
    dialect: sa.Dialect,
    *,
    where: sa.ColumnElement[bool] | None = None,
    locks: bool = False,
) -> sa.Select[Any]:
    """Returns a query for the `wanted` columns of the rows with these keys, and `where` holds. If
    it `locks` them, it does so in the order of the keys, which its caller has sorted."""
    condition = sa.true() if where is None else where
    if dialect.name != "postgresql":
        found = sa.select(*wanted).where(condition, among(columns, keys, dialect))
        return found.order_by(*columns).with_for_update() if locks else found
    # A table that was not analysed yet would be read as a whole: each key is looked up by itself,
    # which a lock, or an offset, keeps the planner from undoing.
    names = [f"key_{number}" for number in range(len(columns))]
    parts = [
        sa.literal(list(values), postgresql.ARRAY(_listed(column)))
        for column, values in zip(columns, zip(*keys, strict=True), strict=True)
    ]
    asked = sa.func.unnest(*parts).table_valued(*names).render_derived(name="asked")
    is_one = [column == asked.c[name] for column, name in zip(columns, names, strict=True)]
    one = sa.select(*wanted).where(condition, *is_one)
    found_one = (one.with_for_update() if locks else one.offset(0)).lateral("found")
    return sa.select(*found_one.c).select_from(asked.join(found_one, sa.true()))


def _listed(column: Any) -> Any:
    return sa.Text() if isinstance(column.type, sa.String) else column.type

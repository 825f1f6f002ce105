"""The values that columns take, alike for every database. No I/O.

A sum must not depend on how its parts came in batches: numbers with a scale are rounded before they
are added, as the databases would do it afterwards.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, DecimalException
from typing import Any

import sqlalchemy as sa

from bus.errors import ProjectionError
from bus.stores.sink import Increment, Upsert


def is_numeric(column: sa.Column[Any]) -> bool:
    """Returns whether it has decimal numbers."""
    return isinstance(column.type, sa.Numeric) and not isinstance(column.type, sa.Float)


def python_type(column: sa.Column[Any]) -> type | None:
    """Returns the type of its values; None if that cannot be told."""
    kind = column.type
    if isinstance(kind, sa.types.TypeDecorator | sa.JSON | sa.Enum):
        return None
    try:
        return kind.python_type
    except NotImplementedError:
        return None


def stored(column: sa.Column[Any], value: Any) -> Any:
    """Returns a value as it is stored. Raises: ProjectionError, which quotes none."""
    if value is None:
        if column.nullable:
            return value
        raise ProjectionError(f"column {column.name!r} is never empty, and is given None")
    kind = python_type(column)
    if kind is None:
        return value
    if is_numeric(column):
        return _scaled(column, value)
    if kind is float and type(value) in (int, Decimal):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ProjectionError(
            f"column {column.name!r} takes {kind.__name__}, and is given {type(value).__name__}"
        )
    if isinstance(value, str):
        _check_length(column, value)
    return _in_utc(column, value) if isinstance(value, datetime) else value


def _check_length(column: sa.Column[Any], value: str) -> None:
    """Checks what a database would refuse without naming the column."""
    most = getattr(column.type, "length", None)
    if most is not None and len(value) > most:
        raise ProjectionError(
            f"column {column.name!r} has {most} characters at most, and is given {len(value)}"
        )


def increased(column: sa.Column[Any], value: Any, amount: Any) -> Any:
    """Returns a number with an amount added; a missing one counts as 0."""
    added = stored(column, amount)
    if value is None:
        return added
    return _scaled(column, value) + added if is_numeric(column) else value + added


def check(table: sa.Table, change: Upsert | Increment) -> None:
    """Raises: ProjectionError if the table cannot take what a handler returned."""
    given: Mapping[str, Any] = change.values if isinstance(change, Upsert) else change.amounts
    for name, value in given.items():
        column = _named(table, name)
        if isinstance(change, Increment):
            _check_number(column, value)
        stored(column, value)


def _named(table: sa.Table, name: str) -> sa.Column[Any]:
    column = table.columns.get(name)
    if column is None:
        raise ProjectionError(
            f"table {table.name!r} has no column {name!r:.100}; it has "
            f"{', '.join(map(repr, table.columns.keys()))}"
        )
    if column.primary_key:
        raise ProjectionError(
            f"column {name!r} is of the primary key of table {table.name!r}: the key says which "
            f"row it is (on(key=...), or (key, change) pairs); leave it out of the change"
        )
    if column.computed is not None:
        raise ProjectionError(
            f"column {name!r} of table {table.name!r} is computed by the database; leave it out"
        )
    return column


def _check_number(column: sa.Column[Any], amount: Any) -> None:
    kind = python_type(column)
    if kind not in (int, float, Decimal) or isinstance(amount, bool) or amount is None:
        raise ProjectionError(
            f"Increment({column.name}=...): it adds {type(amount).__name__} to a column of "
            f"{kind.__name__ if kind else column.type}; both must be numbers"
        )


def _scaled(column: sa.Column[Any], value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ProjectionError(
            f"column {column.name!r} takes a number, and is given {type(value).__name__}"
        )
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    scale: int | None = column.type.scale  # type: ignore[attr-defined]
    if scale is None:
        return exact
    try:
        return exact.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    except DecimalException:
        raise ProjectionError(f"column {column.name!r}: the number has too many digits") from None


def _in_utc(column: sa.Column[Any], value: datetime) -> datetime:
    """Returns a time as its column has it: in UTC, and with an offset only where that has one."""
    has_zone = getattr(column.type, "timezone", False)
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC) if has_zone else value
    value = value.astimezone(UTC)
    return value if has_zone else value.replace(tzinfo=None)

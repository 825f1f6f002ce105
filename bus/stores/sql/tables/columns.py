"""The values that columns take, alike for every database. No I/O.

A sum must not depend on how its parts came in batches: numbers with a scale are rounded before they
are added, as the databases would do it afterwards.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, DecimalException
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from bus.errors import ProjectionError
from bus.stores.sink import Increment, Upsert

_MOST: Mapping[Any, int] = {
    kind: 2**bits
    for bits, kinds in {
        15: (sa.SmallInteger, sa.SMALLINT),
        31: (sa.Integer, sa.INTEGER),
        63: (sa.BigInteger, sa.BIGINT),
    }.items()
    for kind in kinds
}
"""Whole numbers begin with minus this, and end before it: no driver names the column."""


@lru_cache(4096)
def is_numeric(column: sa.Column[Any]) -> bool:
    """Returns whether it has decimal numbers."""
    return isinstance(column.type, sa.Numeric) and not isinstance(column.type, sa.Float)


@lru_cache(4096)
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
    if kind is float:
        return _float(column, value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ProjectionError(
            f"column {column.name!r} takes {kind.__name__}, and is given {type(value).__name__}"
        )
    if isinstance(value, int) and kind is int:
        return _in_range(column, value)
    if isinstance(value, str):
        _check_length(column, value)
    return _timed(column, kind, value) if isinstance(value, date | time) else value


def _check_length(column: sa.Column[Any], value: str) -> None:
    """Checks what a database would refuse without naming the column."""
    most = getattr(column.type, "length", None)
    if most is not None and len(value) > most:
        raise ProjectionError(
            f"column {column.name!r} has {most} characters at most, and is given {len(value)}"
        )


def increased(column: sa.Column[Any], value: Any, amount: Any) -> Any:
    """Returns a number with an amount added; a missing one counts as 0."""
    total = summed(column, value, amount)
    return _fitting(column, total) if is_numeric(column) else stored(column, total)


def summed(column: sa.Column[Any], value: Any, amount: Any) -> Any:
    """Returns what `increased` returns, though the column may have no room for it."""
    added = stored(column, amount)
    if value is None:
        return added
    return _exact(value) + added if is_numeric(column) else value + added


def bound(column: sa.Column[Any]) -> Decimal | int | None:
    """Returns what a column's numbers are below; None if that is not known."""
    kind: Any = column.type
    if type(kind) in (sa.Numeric, sa.NUMERIC, sa.DECIMAL):
        scale = scale_of(column)
        is_bounded = scale is not None and kind.precision is not None
        return Decimal(10) ** (kind.precision - scale) if is_bounded else None
    return _MOST.get(type(kind))


def defaults(table: sa.Table) -> dict[str, Any]:
    """Returns what a new row holds, besides its key, before it is changed."""
    found: dict[str, Any] = dict.fromkeys(written(table))
    for name in found:
        default: Any = table.columns[name].default
        if default is not None:
            found[name] = stored(table.columns[name], default.arg)
    return found


def written(table: sa.Table) -> list[str]:
    """Returns the columns that hold what handlers gave: not the key, and nothing computed."""
    return [
        column.name
        for column in table.columns
        if not column.primary_key and column.computed is None
    ]


def check(table: sa.Table, change: Upsert | Increment) -> None:
    """Raises: ProjectionError if the table cannot take what a handler returned."""
    given: Mapping[str, Any] = change.values if isinstance(change, Upsert) else change.amounts
    for name, value in given.items():
        column = _named(table, name)
        if isinstance(change, Increment):
            _check_number(column, value)
        stored(column, value)
        _check_special(column, value)


def _check_special(column: sa.Column[Any], value: Any) -> None:
    """Checks what SQLAlchemy would pass on unseen, and could not read again, or not pass on."""
    kind = column.type
    if isinstance(kind, sa.Enum) and value is not None:
        own = kind.enum_class
        if not (own is not None and isinstance(value, own)) and value not in (kind.enums or ()):
            what = f"a member of {own.__name__}" if own else f"one of {', '.join(kind.enums)}"
            raise ProjectionError(
                f"column {column.name!r} takes {what:.300}, and is given another {_kind(value)}"
            )
    elif isinstance(kind, sa.JSON):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ProjectionError(
                f"column {column.name!r} takes JSON, and is given what that does not have "
                f"({type(error).__name__}): give texts, finite numbers, lists and mappings; a time "
                f"or a Decimal as text"
            ) from None
    elif isinstance(kind, sa.ARRAY) and isinstance(value, list | tuple):
        _check_items(column.name, kind.item_type, value)


def _check_items(name: str, kind: Any, values: Any) -> None:
    """Checks texts of an array, which PostgreSQL would cut off."""
    most = getattr(kind, "length", None)
    for value in values:
        if isinstance(value, list | tuple):
            _check_items(name, kind, value)
        elif most is not None and isinstance(value, str) and len(value) > most:
            raise ProjectionError(
                f"column {name!r} has texts of {most} characters at most, and is given {len(value)}"
            )


def _kind(value: Any) -> str:
    return type(value).__name__


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


def _float(column: sa.Column[Any], value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ProjectionError(f"column {column.name!r} takes float, and is given {_kind(value)}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if math.isfinite(found):
        return found
    raise _not_finite(column)


def _not_finite(column: sa.Column[Any]) -> ProjectionError:
    return ProjectionError(
        f"column {column.name!r} takes finite numbers, because not all databases have others, and "
        f"is given, or comes to, another one; give None instead"
    )


def _in_range(column: sa.Column[Any], value: int) -> int:
    most = _MOST.get(type(column.type))
    if most is None or -most <= value < most:
        return value
    raise ProjectionError(
        f"column {column.name!r} has whole numbers from -{most} to {most - 1}, and the number is "
        f"beyond that"
    )


def _scaled(column: sa.Column[Any], value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ProjectionError(f"column {column.name!r} takes a number, and is given {_kind(value)}")
    exact = _exact(value)
    if not exact.is_finite():
        raise _not_finite(column)
    scale = scale_of(column)
    if scale is None:
        return exact
    try:
        return _fitting(column, exact.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP))
    except DecimalException:
        raise _too_many_digits(column) from None


def _exact(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def scale_of(column: sa.Column[Any]) -> int | None:
    """Returns the digits that a decimal number has behind its point; None if any number of them.
    What has a precision alone has none."""
    kind: Any = column.type
    scale: int | None = kind.scale
    return 0 if scale is None and kind.precision is not None else scale


def _fitting(column: sa.Column[Any], value: Decimal) -> Decimal:
    precision: int | None = column.type.precision  # type: ignore[attr-defined]
    if precision is None or value.adjusted() < precision - (scale_of(column) or 0):
        return value
    raise _too_many_digits(column)


def _too_many_digits(column: sa.Column[Any]) -> ProjectionError:
    return ProjectionError(f"column {column.name!r}: the number has too many digits")


def _timed(column: sa.Column[Any], kind: type, value: Any) -> Any:
    """Returns a time as its column has it: in UTC, and with an offset only where that has one."""
    has_zone = getattr(column.type, "timezone", False)
    if isinstance(value, datetime) and kind is date:
        raise ProjectionError(
            f"column {column.name!r} takes date, and is given datetime; give its date(), in the "
            f"zone that is meant"
        )
    if isinstance(value, time) and value.tzinfo is not None and not has_zone:
        raise ProjectionError(f"column {column.name!r} takes a time without a zone, and has one")
    return _in_utc(column, value, has_zone) if isinstance(value, datetime) else value


def _in_utc(column: sa.Column[Any], value: datetime, has_zone: bool) -> datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC) if has_zone else value
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ProjectionError(
            f"column {column.name!r}: in UTC the time is beyond the years 1 to 9999"
        ) from None
    return value if has_zone else value.replace(tzinfo=None)

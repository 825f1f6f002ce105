"""Groups, totals and different values of documents in memory, as MongoDB would tell them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from bus.data.payload import LEAST, MOST, Document
from bus.errors import ProjectionError
from bus.stores.documents.applying import LIKE_MONGODB
from bus.stores.documents.order import order_of
from bus.stores.grouping import Grouping, Total

MISSING = object()


def distinct(documents: Iterable[Document], field: str) -> list[Any]:
    """The different values of a field, those of arrays one by one, in their order."""
    found: dict[Any, Any] = {}
    for document in documents:
        for value in _along(document, field.split(".")):
            found.setdefault(order_of(value), value)
    return [found[order] for order in sorted(found)]


def groups(documents: Iterable[Document], grouping: Grouping) -> list[Document]:
    """The groups, each a row of the fields that it is by and its totals."""
    members: dict[tuple[Any, ...], list[Document]] = {}
    for document in documents:
        keys = tuple(order_of(_known(document, field)) for field in grouping.by)
        members.setdefault(keys, []).append(document)
    rows = [_row(alike, grouping) for alike in members.values()]
    for name, direction in reversed(grouping.order):
        rows.sort(key=lambda row: _place(row[name], direction), reverse=direction < 0)
    return rows[: grouping.limit] if grouping.limit else rows


def _row(alike: Sequence[Document], grouping: Grouping) -> Document:
    row = {field: _known(alike[0], field) for field in grouping.by}
    for name, total in grouping.totals.items():
        row[name] = _told(alike, total)
    return row


def _told(alike: Sequence[Document], total: Total) -> Any:
    if not total.field:
        return len(alike)
    values = [_value(document, total.field.split(".")) for document in alike]
    if total.operator in ("$min", "$max"):
        there = [one for one in values if one is not MISSING and one is not None]
        extreme = min if total.operator == "$min" else max
        return extreme(there, key=order_of, default=None)
    numbers = [one for one in values if isinstance(one, int | float | Decimal)]
    numbers = [one for one in numbers if not isinstance(one, bool)]
    if total.operator == "$sum":
        return _sum(numbers)
    return _average(numbers) if numbers else None


def _sum(numbers: Sequence[Any]) -> Any:
    if any(isinstance(one, Decimal) for one in numbers):
        return _exact_sum(numbers)
    if any(isinstance(one, float) for one in numbers):
        return _float_sum(numbers)
    whole = sum(numbers)
    return whole if LEAST <= whole <= MOST else float(whole)


def _average(numbers: Sequence[Any]) -> Any:
    if any(isinstance(one, Decimal) for one in numbers):
        return LIKE_MONGODB.divide(_exact_sum(numbers), Decimal(len(numbers)))
    return _float_sum(numbers) / len(numbers)


def _exact_sum(numbers: Sequence[Any]) -> Decimal:
    if any(isinstance(one, float) for one in numbers):
        raise ProjectionError(
            "in memory, decimals and floats have no common total: keep one kind in the field, or "
            "run this against MongoDB"
        )
    total = Decimal(0)
    for one in numbers:
        total = LIKE_MONGODB.add(total, Decimal(one))
    return total


def _float_sum(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers)  # MongoDB's keeps the rest of each addition, too
    except (ValueError, OverflowError):  # infinities
        return float(sum(numbers))


def _place(value: Any, direction: int) -> tuple[Any, ...]:
    """Where a sort puts a value: an array by the least of its elements, or downwards the most."""
    if not isinstance(value, list):
        return order_of(value)
    extreme = min if direction > 0 else max
    return extreme(map(order_of, value), default=(0,))


def _known(document: Any, field: str) -> Any:
    """The value of a field, None where there is none."""
    value = _value(document, field.split("."))
    return None if value is MISSING else value


def _value(document: Any, path: Sequence[str]) -> Any:
    """What an expression finds at a path: through an array, an array of what its elements have."""
    if not path:
        return document
    if isinstance(document, Mapping):
        return _value(document[path[0]], path[1:]) if path[0] in document else MISSING
    if isinstance(document, list):
        each = [_value(one, path) for one in document if isinstance(one, Mapping | list)]
        return [one for one in each if one is not MISSING]
    return MISSING


def _along(holder: Any, path: Sequence[str]) -> Iterator[Any]:
    """Every value at a path, of arrays on the way and at its end one by one."""
    name, *rest = path
    if isinstance(holder, list):
        value = holder[int(name)] if int(name) < len(holder) else MISSING
    else:
        value = holder.get(name, MISSING)
    if not rest:
        yield from value if isinstance(value, list) else [] if value is MISSING else [value]
    elif isinstance(value, list) and rest[0].isdecimal():
        yield from _along(value, rest)
    else:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                yield from _along(one, rest)

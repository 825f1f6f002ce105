"""Groups, totals and distinct values of documents in memory, as MongoDB would compute them."""

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
    """Returns the distinct values of a field, those of arrays one by one, sorted."""
    found: dict[Any, Any] = {}
    for document in documents:
        for value in _along(document, field.split(".")):
            found.setdefault(order_of(value), value)
    return [found[order] for order in sorted(found)]


def groups(documents: Iterable[Document], grouping: Grouping) -> list[Document]:
    """Returns the groups, each a row of the fields it is grouped by and its totals."""
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
        row[name] = _total(alike, total)
    return row


def _total(alike: Sequence[Document], total: Total) -> Any:
    if not total.field:
        return len(alike)
    values = [_value(document, total.field.split(".")) for document in alike]
    if total.operator in ("$min", "$max"):
        present = [value for value in values if value is not MISSING and value is not None]
        extreme = min if total.operator == "$min" else max
        return extreme(present, key=order_of, default=None)
    numbers = [value for value in values if isinstance(value, int | float | Decimal)]
    numbers = [number for number in numbers if not isinstance(number, bool)]
    if total.operator == "$sum":
        return _sum(numbers)
    return _average(numbers) if numbers else None


def _sum(numbers: Sequence[Any]) -> Any:
    if any(isinstance(number, Decimal) for number in numbers):
        return _exact_sum(numbers)
    if any(isinstance(number, float) for number in numbers):
        return _float_sum(numbers)
    whole = sum(numbers)
    return whole if LEAST <= whole <= MOST else float(whole)


def _average(numbers: Sequence[Any]) -> Any:
    if any(isinstance(number, Decimal) for number in numbers):
        return LIKE_MONGODB.divide(_exact_sum(numbers), Decimal(len(numbers)))
    return _float_sum(numbers) / len(numbers)


def _exact_sum(numbers: Sequence[Any]) -> Decimal:
    if any(isinstance(number, float) for number in numbers):
        raise ProjectionError(
            "in memory, decimals and floats have no common total: keep one kind in the field, or "
            "run this against MongoDB"
        )
    total = Decimal(0)
    for number in numbers:
        total = LIKE_MONGODB.add(total, Decimal(number))
    return total


def _float_sum(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers)  # MongoDB keeps the rest of each addition too
    except (ValueError, OverflowError):  # infinities
        return float(sum(numbers))


def _place(value: Any, direction: int) -> tuple[Any, ...]:
    """Returns where a sort puts a value: an array by its least element, or downwards by its
    greatest."""
    if not isinstance(value, list):
        return order_of(value)
    extreme = min if direction > 0 else max
    return extreme(map(order_of, value), default=(0,))


def _known(document: Any, field: str) -> Any:
    """Returns the value of a field, None if there is none."""
    value = _value(document, field.split("."))
    return None if value is MISSING else value


def _value(document: Any, path: Sequence[str]) -> Any:
    """Returns what an expression finds at a path: of an array, an array of what its elements
    have."""
    if not path:
        return document
    if isinstance(document, Mapping):
        return _value(document[path[0]], path[1:]) if path[0] in document else MISSING
    if isinstance(document, list):
        found = [_value(item, path) for item in document if isinstance(item, Mapping | list)]
        return [value for value in found if value is not MISSING]
    return MISSING


def _along(holder: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yields every value at a path; arrays on the way and at its end are gone through."""
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
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                yield from _along(item, rest)

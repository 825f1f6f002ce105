"""Applies a MongoDB update to a document in memory exactly as MongoDB would, or not at all.

Only what is simple: values set, removed, reckoned with or appended, under names or paths through
objects.
Whoever meets `Beyond` has the database do it. Knows no database.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import datetime
from decimal import Context, Decimal
from math import isfinite
from operator import add, itemgetter, mul
from typing import Any

from bson.decimal128 import Decimal128, create_decimal128_context

from bus.payload import LEAST, MOST
from bus.stores.base import Document

SCALARS = frozenset([str, int, float, bool, type(None), datetime, bytes, Decimal128])
ORDERED = frozenset([str, datetime])
LIKE_MONGODB: Context = create_decimal128_context()


class Beyond(Exception):
    """An update that is the database's to apply. The document is not to be used any more."""


def apply(document: Document | None, update: Mapping[str, Any]) -> Document:
    """The document after an update that `checked` let pass, changed in place; a new one where
    there is none. Raises: Beyond.
    """
    applied: Document = {} if document is None else document
    seen: set[str] = set()
    # In the order of their paths, as MongoDB goes through them: it decides the order of new fields.
    for path, operator, value in sorted(_steps(update), key=PATH):
        if path in seen or "$" in path:
            raise Beyond
        *parents, name = path.split(".") if "." in path else (path,)
        if parents and any(path.startswith(f"{one}.") for one in seen):
            raise Beyond
        seen.add(path)
        if operator is _set_on_insert and document is not None:
            continue
        holder = _holder(applied, parents, making=operator is not _unset)
        if holder is not None:
            operator(holder, name, value)
    return applied


Operator = Callable[[Document, str, Any], None]
PATH = itemgetter(0)


def _steps(update: Mapping[str, Any]) -> Iterator[tuple[str, Operator, Any]]:
    for name, fields in update.items():
        operator = OPERATORS.get(name)
        if operator is None:
            raise Beyond
        for path, value in fields.items():
            yield path, operator, value


def _holder(document: Document, parents: list[str], *, making: bool) -> Document | None:
    """The object that holds the field; None where there is none, and it is not to be made."""
    for name in parents:
        if name not in document:
            if not making:
                return None
            document[name] = {}
        document = document[name]
        if type(document) is not dict:
            raise Beyond
    return document


def _set(holder: Document, name: str, value: Any) -> None:
    holder[name] = _own(value)


def _set_on_insert(holder: Document, name: str, value: Any) -> None:
    _set(holder, name, value)


def _unset(holder: Document, name: str, value: Any) -> None:
    holder.pop(name, None)


def _inc(holder: Document, name: str, value: Any) -> None:
    holder[name] = _reckoned(holder.get(name, 0), value, add, LIKE_MONGODB.add)


def _mul(holder: Document, name: str, value: Any) -> None:
    """What is not there becomes a zero of the value's type."""
    by = value if name in holder else 0
    holder[name] = _reckoned(holder.get(name, value), by, mul, LIKE_MONGODB.multiply)


def _reckoned(
    one: Any, other: Any, plainly: Callable[[Any, Any], Any], exactly: Callable[..., Decimal]
) -> Any:
    """The result, of the type that MongoDB gives it."""
    before, one, other = one, _number(one), _number(other)
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        result = exactly(_exact(one), _exact(other))
        # MongoDB leaves a decimal alone that stays equal: it gains no zeros.
        return before if isinstance(one, Decimal) and one == result else _decimal(result)
    result = plainly(one, other)
    if type(result) is int and not LEAST <= result <= MOST:
        raise Beyond
    return result


def plus(one: Decimal, other: Decimal | int | float) -> Decimal:
    """Their sum, as MongoDB's."""
    return LIKE_MONGODB.add(one, _exact(other))


def _exact(number: Any) -> Decimal:
    """MongoDB takes 15 digits of a float."""
    if type(number) is not float:
        return Decimal(number)
    if not isfinite(number):
        raise Beyond
    return Decimal(f"{number:.14e}" if number else f"{number:.0f}")


def _decimal(number: Decimal) -> Decimal128:
    if not number.is_finite():
        raise Beyond
    return Decimal128(number)


def _push(holder: Document, name: str, value: Any) -> None:
    entries = holder.setdefault(name, [])
    if type(entries) is not list:
        raise Beyond
    if isinstance(value, Mapping) and any(str(key).startswith("$") for key in value):
        if value.keys() != {"$each"} or type(value["$each"]) is not list:
            raise Beyond
        entries += map(_own, value["$each"])
    else:
        entries.append(_own(value))


def _max(holder: Document, name: str, value: Any) -> None:
    if name not in holder or _less(holder[name], value):
        _set(holder, name, value)


def _min(holder: Document, name: str, value: Any) -> None:
    if name not in holder or _less(value, holder[name]):
        _set(holder, name, value)


def _less(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or type(one) not in ORDERED:
        one, other = _number(one), _number(other)
    if one != one or other != other:  # NaN, which has a place of its own
        raise Beyond
    return bool(one < other)


OPERATORS: dict[str, Operator] = {
    "$set": _set,
    "$setOnInsert": _set_on_insert,
    "$unset": _unset,
    "$inc": _inc,
    "$mul": _mul,
    "$push": _push,
    "$max": _max,
    "$min": _min,
}


def _own(value: Any) -> Any:
    """The value, or a copy of what somebody else may hold too."""
    return value if type(value) in SCALARS else deepcopy(value)


def _number(value: Any) -> Any:
    """MongoDB orders values of all types, and adds more kinds of numbers; here these alone are."""
    if type(value) is Decimal128:
        value = value.to_decimal()
        if value.is_finite():
            return value
    if type(value) not in (int, float):
        raise Beyond
    return value

"""Applies a MongoDB update to a document in memory exactly as MongoDB would, or not at all.

Only what is simple: values that are set, removed, calculated, put into arrays or taken out, under
names or paths through objects and arrays. For the rest it raises `Beyond`, and the caller has the
database apply it. Knows no database.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import datetime
from decimal import Context, Decimal
from math import isfinite
from operator import add, and_, mul, or_, xor
from typing import Any

from bson import ObjectId
from bson.decimal128 import Decimal128, create_decimal128_context
from bson.int64 import Int64

from bus.data.payload import LEAST, MOST, Document
from bus.stores.documents.order import order_of
from bus.stores.documents.paths import NotViable, Refused, holder_of, is_place, is_there, pad, shown
from bus.stores.documents.values import read

SCALARS = frozenset([str, int, float, bool, type(None), datetime, bytes, Decimal128])
LIKE_MONGODB: Context = create_decimal128_context()


class Beyond(Exception):
    """Only the database can apply the update. The document must not be used any more."""


def apply(document: Document | None, update: Mapping[str, Any]) -> Document:
    """Applies an update that has passed `checked`, in place, and returns the document; a new one if
    there is none. Raises: Beyond, Refused.
    """
    applied: Document = {} if document is None else document
    # In the order of their paths, as MongoDB does: it decides the order of new fields.
    for path, operator, value in sorted(_steps(update), key=_place):
        if "$" in path:
            raise Beyond
        if operator == "$setOnInsert" and document is not None:
            continue
        try:
            if operator == "$rename":
                _rename(applied, value, path)
            else:
                _apply(applied, path, operator, value)
        except Refused as error:
            named = value if operator == "$rename" else path
            raise Refused(error.why, f"{operator} of {named!r:.300}") from None
    return applied


Operator = Callable[[Document, str, Any], None]
Step = tuple[str, str, Any]


def _place(step: Step) -> list[tuple[int, int, str]]:
    """Returns the sort key of a step: MongoDB goes through places in an array by number."""
    parts = step[0].split(".")
    return [(0, int(part), "") if is_place(part) else (1, 0, part) for part in parts]


def _steps(update: Mapping[str, Any]) -> Iterator[Step]:
    for operator, fields in update.items():
        if operator != "$rename" and operator not in OPERATORS:
            raise Beyond
        for path, value in fields.items():
            yield (value, operator, path) if operator == "$rename" else (path, operator, value)


def _apply(document: Document, path: str, operator: str, value: Any) -> None:
    *parents, name = path.split(".") if "." in path else (path,)
    making = operator not in REMOVING
    try:
        holder = holder_of(document, parents, making=making)
        if isinstance(holder, list):
            _within(holder, name, OPERATORS[operator], value, making=making)
        elif holder is not None:
            OPERATORS[operator](holder, name, value)
    except NotViable:
        if operator != "$unset":
            raise
    CHECKS.get(operator, _anything)(value)


def _rename(document: Document, path: str, to: str) -> None:
    *parents, name = path.split(".")
    try:
        holder = holder_of(document, parents, making=False)
    except NotViable:
        return
    if holder is None or (isinstance(holder, dict) and name not in holder):
        return
    *parents, new = to.split(".")
    place = holder_of(document, parents, making=True)
    if not isinstance(holder, dict) or not isinstance(place, dict):
        raise Refused("an array is there, and a place in an array cannot be renamed")
    place[new] = holder.pop(name)


def _within(entries: list[Any], name: str, operator: Operator, value: Any, *, making: bool) -> None:
    """Applies an operator at a place of an array; what is removed becomes None."""
    found = is_there(entries, name)
    if not found and not making:
        return
    place = {name: entries[int(name)]} if found else {}
    operator(place, name, value)
    pad(entries, name)
    entries[int(name) : int(name) + 1] = [place.get(name)]


def _set(holder: Document, name: str, value: Any) -> None:
    holder[name] = _own(value)


def _unset(holder: Document, name: str, value: Any) -> None:
    holder.pop(name, None)


def _inc(holder: Document, name: str, value: Any) -> None:
    holder[name] = _calculated(holder.get(name, 0), value, add, LIKE_MONGODB.add)


def _mul(holder: Document, name: str, value: Any) -> None:
    """Multiplies; a missing field becomes a zero of the value's type."""
    by = value if name in holder else 0
    _number(value, "the value given")
    holder[name] = _calculated(holder.get(name, value), by, mul, LIKE_MONGODB.multiply)


def _calculated(
    field: Any, given: Any, plainly: Callable[[Any, Any], Any], exactly: Callable[..., Decimal]
) -> Any:
    """Returns the result, in the type that MongoDB gives it. Raises: Beyond, Refused."""
    by, number = _number(given, "the value given"), _number(field, "the field")
    if isinstance(number, Decimal) or isinstance(by, Decimal):
        result = exactly(_exact(number), _exact(by))
        # MongoDB leaves a decimal alone that stays equal: it gains no zeros.
        return field if isinstance(number, Decimal) and number == result else _decimal(result)
    result = plainly(number, by)
    if type(result) is int and not LEAST <= result <= MOST:
        raise Refused("the result is beyond 64 bits; keep such numbers as Decimal")
    return result


def plus(total: Decimal, number: Decimal | int | float) -> Decimal:
    """Returns the sum that MongoDB would compute. Raises: Beyond."""
    return LIKE_MONGODB.add(total, _exact(number))


def _exact(number: Any) -> Decimal:
    """Returns a number as a Decimal, like MongoDB with 15 digits of a float. Raises: Beyond."""
    if type(number) is not float:
        return Decimal(number)
    if not isfinite(number):
        raise Beyond
    return Decimal(f"{number:.14e}" if number else f"{number:.0f}")


def _decimal(number: Decimal) -> Decimal128:
    if not number.is_finite():
        raise Beyond
    return Decimal128(number)


def _number(value: Any, what: str) -> Any:
    if type(value) is Decimal128:
        value = value.to_decimal()
        if value.is_finite():
            return value
        raise Beyond
    if type(value) is Int64:
        return int(value)
    if type(value) not in (int, float):
        raise Refused(f"{what} is {shown(value)}, and it takes numbers")
    return value


def _bit(holder: Document, name: str, value: Any) -> None:
    number = _integer(holder.get(name, 0), "the field")
    if not isinstance(value, Mapping) or not value or value.keys() - BITS.keys():
        raise Refused('it takes and, or, xor with an integer, as in {"or": 1}')
    for operation, mask in value.items():
        number = BITS[operation](number, _integer(mask, "the value given"))
    holder[name] = number


BITS: dict[str, Callable[[int, int], int]] = {"and": and_, "or": or_, "xor": xor}


def _integer(value: Any, what: str) -> int:
    if type(value) not in (int, Int64):
        raise Refused(f"{what} is {shown(value)}, and it takes integers")
    return int(value)


def _push(holder: Document, name: str, value: Any) -> None:
    entries = _array(holder.setdefault(name, []))
    if not _has_operators(value):
        entries.append(_own(value))
        return
    if value.keys() - {"$each", "$position", "$slice"} or "$each" not in value:
        raise Beyond
    place = _whole(value.get("$position", len(entries)), "$position")
    entries[place:place] = map(_own, _each(value))
    if "$slice" in value:
        kept = _whole(value["$slice"], "$slice")
        entries[:] = entries[:kept] if kept >= 0 else entries[kept:]


def _add_to_set(holder: Document, name: str, value: Any) -> None:
    if _has_operators(value) and value.keys() != {"$each"}:
        raise Beyond
    values = _each(value) if _has_operators(value) else [value]
    entries = _array(holder.setdefault(name, []))
    present = [_order(entry) for entry in entries]
    for added in values:
        if (order := _order(added)) not in present:
            present.append(order)
            entries.append(_own(added))


def _pop(holder: Document, name: str, value: Any) -> None:
    if name in holder and (entries := _array(holder[name])):
        del entries[-1 if value == 1 else 0]


def _pull(holder: Document, name: str, value: Any) -> None:
    if type(value) not in SCALARS:  # a condition, or a whole array
        if name in holder:
            _array(holder[name])
            raise Beyond
        return
    _pull_all(holder, name, [value])


def _pull_all(holder: Document, name: str, value: Any) -> None:
    if name in holder:
        entries = _array(holder[name])
        unwanted = [_order(entry) for entry in value] if type(value) is list else []
        entries[:] = [entry for entry in entries if _order(entry) not in unwanted]


def _array(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Refused(f"the field is {shown(value)}, and it takes an array")
    return value


def _has_operators(value: Any) -> bool:
    return isinstance(value, Mapping) and any(str(key).startswith("$") for key in value)


def _each(value: Mapping[str, Any]) -> list[Any]:
    entries = value["$each"]
    if type(entries) is not list:
        raise Refused(f"$each is {shown(entries)}, and it takes a list")
    return entries


def _whole(value: Any, what: str) -> int:
    if type(value) is not int:
        raise Refused(f"{what} is {shown(value)}, and it takes a whole number")
    return value


def _max(holder: Document, name: str, value: Any) -> None:
    if name not in holder or _order(holder[name]) < _order(value):
        _set(holder, name, value)


def _min(holder: Document, name: str, value: Any) -> None:
    if name not in holder or _order(value) < _order(holder[name]):
        _set(holder, name, value)


def _order(value: Any) -> tuple[Any, ...]:
    """Returns where MongoDB sorts a value, the same for equal values. Raises: Beyond."""
    if not _is_known(value):
        raise Beyond
    return order_of(read(value))


def _is_known(value: Any) -> bool:
    if type(value) in (dict, list):
        return all(map(_is_known, value.values() if type(value) is dict else value))
    return type(value) in SCALARS or type(value) in (Int64, ObjectId)


OPERATORS: dict[str, Operator] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$mul": _mul,
    "$bit": _bit,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pop": _pop,
    "$pull": _pull,
    "$pullAll": _pull_all,
    "$max": _max,
    "$min": _min,
}
REMOVING = frozenset(["$unset", "$pop", "$pull", "$pullAll"])
"""Operators that create nothing on the path to what they remove."""


def _anything(value: Any) -> None: ...


def _check_pop(value: Any) -> None:
    if type(value) not in (int, float) or value not in (1, -1):
        raise Refused("it takes 1 for the last entry, or -1 for the first")


def _check_pull_all(value: Any) -> None:
    if type(value) is not list:
        raise Refused(f"the value given is {shown(value)}, and it takes a list")


CHECKS: dict[str, Callable[[Any], None]] = {"$pop": _check_pop, "$pullAll": _check_pull_all}
"""What MongoDB checks even if there is nothing to change."""


def _own(value: Any) -> Any:
    """Returns the value, or a copy if it can change and others may hold it."""
    return value if type(value) in SCALARS else deepcopy(value)

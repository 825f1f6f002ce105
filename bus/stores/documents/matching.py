"""Selects and sorts documents in memory exactly as MongoDB would, or not at all.

Only what is simple: fields compared with plain values, under names or paths through objects. For
the rest it raises `Beyond`, and the caller uses something else. Knows no database.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from bson.int64 import Int64

from bus.data.payload import Document
from bus.stores.documents.applying import Beyond
from bus.stores.documents.order import order_of
from bus.stores.documents.updates import HIDDEN

MISSING = object()
"""The value of a field that is absent."""

Comparison = Callable[[Any, Any], Any]
Test = Callable[[Any], bool]
"""Returns whether a field's value matches."""


def matcher(filter: Mapping[str, Any]) -> Callable[[Document], bool]:
    """Returns a function that decides whether a filter selects a document.

    Raises: Beyond, at once or at a document that only MongoDB can judge.
    """
    tests = [_part(name, asked) for name, asked in filter.items()]
    return lambda document: all(test(document) for test in tests)


def in_order(documents: Iterable[Document], sort: Sequence[tuple[str, Any]]) -> list[Document]:
    """Returns the documents sorted, by the first field first. Raises: Beyond."""
    found = list(documents)
    for path, direction in reversed(sort):
        if direction not in (1, -1) or type(direction) is not int:
            raise Beyond
        parts = _parts(path)
        places = {id(document): _place(_at(document, parts)) for document in found}
        found.sort(key=lambda document: places[id(document)], reverse=direction < 0)
    return found


def _part(name: str, asked: Any) -> Callable[[Document], bool]:
    if name in JOINED:
        return _joined(JOINED[name], asked)
    parts, test = _parts(name), _test(asked)
    return lambda document: test(_at(document, parts))


def _joined(join: Callable[[Iterable[bool]], bool], filters: Any) -> Callable[[Document], bool]:
    if type(filters) is not list or not filters:
        raise Beyond
    matchers = [matcher(filter) for filter in filters]
    return lambda document: join(matches(document) for matches in matchers)


JOINED: dict[str, Callable[[Iterable[bool]], bool]] = {
    "$and": all,
    "$or": any,
    "$nor": lambda found: not any(found),
}


def _parts(path: str) -> list[str]:
    """Returns the names on a path. Raises: Beyond, if one may be a place in an array."""
    parts = path.split(".")
    if any(not part or part.isdigit() or part.startswith("$") for part in parts):
        raise Beyond
    return parts


def _at(document: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if type(document) is list:
            raise Beyond
        document = document.get(part, MISSING) if isinstance(document, Mapping) else MISSING
    return document


def _test(asked: Any) -> Test:
    if not isinstance(asked, Mapping):
        return _equal(asked)
    tests = [_operator(name, value) for name, value in asked.items()]
    if not tests:
        raise Beyond
    return lambda value: all(test(value) for test in tests)


def _operator(name: str, asked: Any) -> Test:
    make = OPERATORS.get(name)
    if make is None:
        raise Beyond
    return make(asked)


def _equal(asked: Any) -> Test:
    kind = _kind(asked)
    if kind is None:
        raise Beyond
    if asked is None:
        return lambda value: value is MISSING or any(item is None for item in _each(value))
    if kind == NAN:
        return _is_nan
    return lambda value: any(_kind(item) == kind and item == asked for item in _each(value))


def _compared(compare: Comparison) -> Callable[[Any], Test]:
    def test_of(asked: Any) -> Test:
        kind = _kind(asked)
        if kind not in ORDERED:
            raise Beyond
        if kind == NAN:  # equal to itself, and neither more nor less than anything
            return _is_nan if compare(0, 0) else lambda value: False
        return lambda value: any(
            _kind(item) == kind and compare(item, asked) for item in _each(value)
        )

    return test_of


def _is_nan(value: Any) -> bool:
    return any(_kind(item) == NAN for item in _each(value))


def _within(asked: Any) -> Test:
    if type(asked) is not list:
        raise Beyond
    tests = [_equal(value) for value in asked]
    return lambda value: any(test(value) for test in tests)


def _exists(asked: Any) -> Test:
    if type(asked) is not bool:
        raise Beyond
    return lambda value: (value is not MISSING) is asked


def _size(asked: Any) -> Test:
    if type(asked) is not int or asked < 0:
        raise Beyond
    return lambda value: type(value) is list and len(value) == asked


def _not(test_of: Callable[[Any], Test]) -> Callable[[Any], Test]:
    def negated(asked: Any) -> Test:
        test = test_of(asked)
        return lambda value: not test(value)

    return negated


def _operators(asked: Any) -> Test:
    if not isinstance(asked, Mapping):
        raise Beyond
    return _test(asked)


OPERATORS: dict[str, Callable[[Any], Test]] = {
    "$eq": _equal,
    "$ne": _not(_equal),
    "$gt": _compared(operator.gt),
    "$gte": _compared(operator.ge),
    "$lt": _compared(operator.lt),
    "$lte": _compared(operator.le),
    "$in": _within,
    "$nin": _not(_within),
    "$exists": _exists,
    "$size": _size,
    "$not": _not(_operators),
}
NAN, NULL, NUMBER, TEXT, FLAG, TIME = 0, 1, 2, 3, 8, 9
"""Kinds of values: MongoDB compares only values of the same kind."""
KINDS: dict[type, int] = {
    type(None): NULL,
    int: NUMBER,
    Int64: NUMBER,
    float: NUMBER,
    Decimal: NUMBER,
    str: TEXT,
    bool: FLAG,
    datetime: TIME,
}
ORDERED = frozenset({NAN, NUMBER, TEXT, TIME})


def _kind(value: Any) -> int | None:
    """Returns a value's kind; None for objects, lists and absent fields, which no plain value
    equals. Raises: Beyond."""
    if value is MISSING or type(value) in (dict, list):
        return None
    kind = KINDS.get(type(value))
    if kind is None:
        raise Beyond
    return kind if value == value else NAN


def _each(value: Any) -> Sequence[Any]:
    """Returns the values to compare: that of a field, or those in its array."""
    return value if type(value) is list else [value]


def _place(value: Any) -> tuple[Any, ...]:
    plain = None if value is MISSING else value
    if _kind(plain) is None:
        raise Beyond
    return order_of(plain)


def refusal(filter: Mapping[str, Any], why: str) -> str:
    """Returns what to say if a filter, or a sort order, cannot be evaluated."""
    if unknown := sorted({*_names_with_dollar(filter)} - OPERATORS_ASKED):
        return (
            f"the filter has {', '.join(unknown)}, which is none of MongoDB's operators; correct it"
        )
    return (
        f"the filter {_shape(filter)}, or the sort order, cannot be evaluated ({why}): see that "
        f"each operator gets what MongoDB's takes"
    )


def _shape(filter: Mapping[str, Any]) -> str:
    """Returns a filter's fields and operators, without values."""
    fields = {
        name: [operator for operator in asked if str(operator).startswith("$")]
        if isinstance(asked, Mapping)
        else "..."
        for name, asked in filter.items()
        if name != HIDDEN
    }
    return f"{fields!r:.300}"


def _names_with_dollar(filter: Any) -> Iterator[str]:
    """Yields the names with $ in a filter."""
    if isinstance(filter, Mapping):
        yield from (name[:50] for name in filter if str(name).startswith("$"))
        filter = [part for name, part in filter.items() if name not in OF_THEIR_OWN]
    if isinstance(filter, list | tuple):
        for part in filter:
            yield from _names_with_dollar(part)


OF_THEIR_OWN = frozenset(["$expr", "$jsonSchema"])
"""Operators that have operators of their own within."""
OPERATORS_ASKED = OF_THEIR_OWN | frozenset(
    ["$eq", "$gt", "$gte", "$in", "$lt", "$lte", "$ne", "$nin", "$and", "$not", "$nor", "$or",
     "$exists", "$type", "$mod", "$regex", "$options", "$text", "$search", "$language",
     "$caseSensitive", "$diacriticSensitive", "$where", "$all", "$elemMatch", "$size",
     "$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet", "$geoIntersects",
     "$geoWithin", "$near", "$nearSphere", "$geometry", "$maxDistance", "$minDistance", "$box",
     "$center", "$centerSphere", "$polygon", "$comment", "$rand", "$sampleRate", "$alwaysTrue",
     "$alwaysFalse", "$natural", "$meta"]
)  # fmt: skip
"""What a filter may hold, as MongoDB's manual lists it."""

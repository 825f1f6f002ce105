"""Where a state is found by its fields: each value of an indexed field is a place, a number.

Places only narrow a search; what is found there is compared as every store compares it. So equal
values have the same place, whatever their types (1 and 1.0), and others hardly ever. A value that
has no place is not searched by it, and a state that holds one is looked through. Whoever changes
what place a value has must change the digest of `Indexes` as well, or states of before are missed.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

MOST_PLACES = 200
"""Places of one state: a list has one for each item."""

Places = Mapping[str, list[int]]
"""A state's places, by field."""


class Indexes(NamedTuple):
    """By what a state is indexed: its shape, and the fields that have places."""

    shape: str
    fields: frozenset[str]

    @property
    def digest(self) -> int:
        """A positive number that tells them from others."""
        return _digest(self.shape, *sorted(self.fields)) % 2**63 or 1

    def cover(self, fields: Iterable[str], shape: str = "") -> bool:
        """Returns whether states have places for all these fields, and are of the shape if one is
        given."""
        return shape in ("", self.shape) and self.fields.issuperset(fields)


def places_of(category: str, state: Mapping[str, Any], fields: Iterable[str]) -> Places | None:
    """Returns a state's places; None if it has too many, or a value that has none."""
    found: dict[str, list[int]] = {}
    for field in fields:
        own = {place_of(category, field, value) for value in _compared(state.get(field))}
        if None in own:
            return None
        found[field] = sorted(place for place in own if place is not None)
    return found if sum(map(len, found.values())) <= MOST_PLACES else None


def place_of(category: str, field: str, value: Any) -> int | None:
    """Returns the place of states whose field, or an item in it, equals a value; None has that of
    an absent field. Returns None for a value that has no place."""
    form = _form(value)
    if form is None:
        return None
    return _digest(category, field, form)


def _digest(*words: str) -> int:
    """Returns a number of 64 bits, as a database keeps it."""
    named = "\0".join(words).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big", signed=True)


def _compared(value: Any) -> Iterator[Any]:
    """Yields the values that a field equals: objects and lists in lists equal no plain value."""
    for item in value if type(value) is list else [value]:
        if type(item) not in (dict, list):
            yield item


def _form(value: Any) -> str | None:
    """Returns one text for all values that are equal."""
    if value is None:
        return "null"
    if type(value) is bool:
        return f"flag {value}"
    if type(value) is int:
        return f"number {value:x}"
    if type(value) is float and value == value:
        return f"number {int(value):x}" if value.is_integer() else f"number {value!r}"
    return f"text {value}" if type(value) is str else None

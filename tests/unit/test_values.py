"""Values in documents: whatever has a form is read back as it was, through BSON."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from ipaddress import IPv6Address
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, RootModel, TypeAdapter, create_model, field_validator

from bus.errors import ProjectionError
from bus.stores.documents.updates import asked, checked
from bus.stores.documents.values import LENIENT, Unstorable, stored
from bus.stores.records import READING, decoded, encoded
from tests.examples import hundreds


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Rate(Enum):
    LOW = Decimal("0.10")
    HIGH = Decimal("0.2")


class Since(Enum):
    FIRST = date(2024, 1, 1)


class Right(Flag):
    READ = 1
    WRITE = 2


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: Decimal


MILLISECONDS = st.integers(0, 999).map(lambda n: n * 1000)
DIGITS = st.integers(-(10**34) + 1, 10**34 - 1)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=5),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(timedelta(days=-30_000), timedelta(days=30_000)),
    UUID: st.uuids(),
    Decimal: st.builds(lambda n, e: Decimal(n).scaleb(e), DIGITS, st.integers(-50, 50)),
    datetime: st.builds(
        lambda moment, micros: moment.replace(microsecond=micros),
        st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
        MILLISECONDS,
    ),
    Colour: st.sampled_from(Colour),
    Rate: st.sampled_from(Rate),
    Right: st.sampled_from([Right.READ, Right.READ | Right.WRITE]),
    Word: st.just(Word.YES),
    Level: st.just(Level.ONE),
    Point: st.builds(Point, st.integers(0, 9), st.just(Decimal("1.10"))),
    IPv6Address: st.ip_addresses(v=6),
}
KEYS = [str, int, UUID, date, Colour, Level]

DICT: Any = dict
FROZENSET: Any = frozenset
Typed = tuple[Any, st.SearchStrategy[Any]]


def leaf(kind: Any) -> Typed:
    return kind, LEAVES[kind]


def container(inner: Typed) -> st.SearchStrategy[Typed]:
    kind: Any
    kind, values = inner
    some = st.lists(values, max_size=3)
    keys = st.sampled_from(KEYS)
    return st.one_of(
        st.just((list[kind], some)),
        st.just((tuple[kind, ...], some.map(tuple))),
        st.just((deque[kind], some.map(deque))),
        st.just((kind | None, st.none() | values)),
        keys.map(lambda key: (DICT[key, kind], st.dictionaries(LEAVES[key], values, max_size=3))),
        st.builds(model_of, st.just(inner), st.sampled_from(["value", "x.y", "ünder"])),
    )


def model_of(inner: Typed, alias: str) -> Typed:
    model = create_model(
        "Made", value=(inner[0], Field(serialization_alias=alias, exclude=alias == "value"))
    )
    return model, st.builds(lambda value: model(value=value), inner[1])


TYPES = st.one_of(
    st.sampled_from(list(LEAVES)).map(leaf),
    st.sampled_from([str, int, UUID, date, Decimal, Colour, datetime]).map(
        lambda kind: (FROZENSET[kind], st.frozensets(LEAVES[kind], max_size=4))
    ),
)
VALUES = st.recursive(TYPES, lambda inner: inner.flatmap(container), max_leaves=4).flatmap(
    lambda typed: st.tuples(st.just(typed[0]), typed[1])
)


def kept(value: Any) -> Any:
    """What MongoDB's driver gives back of a value."""
    return decoded(encoded({"": stored(value)}), READING)[""]


@settings(max_examples=hundreds(3), deadline=None)
@given(typed=VALUES)
def test_a_value_is_read_back_as_it_was_written(typed: tuple[Any, Any]) -> None:
    kind, value = typed
    again = TypeAdapter(kind).validate_python(kept(value), **LENIENT)
    assert again == value
    assert type(again) is type(value)
    assert stored(stored(value)) == stored(value)


@pytest.mark.parametrize("kind", [str, date, time, timedelta, UUID, Decimal, datetime, int, bytes])
def test_forms_are_in_the_order_of_their_values(kind: type) -> None:
    @settings(deadline=None)
    @given(one=LEAVES[kind], other=LEAVES[kind])
    def check(one: Any, other: Any) -> None:
        forms = [order(stored(value)) for value in (one, other)]
        assert (forms[0] < forms[1]) == (order(one) < order(other))
        assert (forms[0] == forms[1]) == (one == other)

    def order(value: Any) -> Any:
        """As MongoDB compares: text by its bytes, bytes by their number first."""
        if isinstance(value, Decimal128):
            return value.to_decimal()
        if isinstance(value, str):
            return value.encode()
        return (len(value), value) if isinstance(value, bytes) else value

    check()


@dataclass
class Place:
    name: str
    size: float = 0
    tags: set[str] = field(default_factory=set)


class Names(RootModel[list[Word]]):
    pass


class Odd(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def doubled(cls, value: int) -> int:
        return 2 * value


class Either(BaseModel):
    day: date | str


class Base(BaseModel):
    name: str = ""


class More(Base):
    discount: int = 0


class Holder(BaseModel):
    part: Base


UNCHECKED: Any = 1
WRONG = Base.model_construct(name=UNCHECKED)


class Text(str):
    __slots__ = ()


class Moment(datetime):
    """As those of pendulum and freezegun."""


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Place("x", 1, {"b", "a"}), {"name": "x", "size": 1, "tags": ["a", "b"]}),
        (Names([Word.YES]), ["yes"]),
        (MappingProxyType({"a": date(2024, 1, 1)}), {"a": "2024-01-01"}),
        (AnyUrl("http://x/"), "http://x/"),
        (PurePath("a/b"), "a/b"),
        (Text("x"), "x"),
        ({1, "a", None}, [None, 1, "a"]),
        (frozenset([(2, "b"), (1, "a")]), [[1, "a"], [2, "b"]]),
        (memoryview(b"x"), b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_has_one_form(value: Any, form: Any) -> None:
    assert stored(value) == form
    assert type(stored(value)) is type(form)


def test_a_datetime_of_a_class_of_its_own_is_a_datetime() -> None:
    moment = stored(Moment(2024, 1, 1, tzinfo=UTC))
    assert (type(moment), moment) == (datetime, datetime(2024, 1, 1, tzinfo=UTC))


def test_what_is_plain_stays_the_very_same() -> None:
    for value in ("x", 1, 1.5, b"x", ObjectId(), {"a": 1}, Decimal128("1")):
        assert stored(value) is value
    update = {"$set": {"a": 1, "b": "x"}, "$inc": {"n": 1}}
    assert all(checked("a", update)[name] is update[name] for name in update)


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        (Odd(value=1), "value", "read back otherwise by Odd"),
        (Either(day=date(2024, 1, 1)), "day", "read back otherwise by Either"),
        (Holder(part=More(name="x", discount=1)), "part", "read back otherwise by Holder"),
        (WRONG, "", "is a Base that cannot be read back: name"),
        ([{"a": {2.5: 1}}], "0.a", "key of type float"),
        ({True: 1}, "", "key of type bool"),
        ({"x": {1: 1, "1": 1}}, "x.1", "same text"),
        ((date(2024, 1, 1), print), "1", "builtin_function_or_method"),
    ],
)
def test_what_would_not_be_read_back_is_refused_by_its_place(
    value: Any, path: str, words: str
) -> None:
    with pytest.raises(Unstorable, match=words) as raised:
        stored(value)
    assert raised.value.path == path


@pytest.mark.parametrize("use", [lambda it: checked("a", {"$set": {"v": it}}),
                                 lambda it: asked({"v": it}, versioned=True)])  # fmt: skip
def test_what_holds_itself_is_refused(use: Callable[[Any], Any]) -> None:
    within: list[Any] = []
    within.append([date(2024, 1, 1), within])
    with pytest.raises(ProjectionError, match="within itself"):
        use(within)

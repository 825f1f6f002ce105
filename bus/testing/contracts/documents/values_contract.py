"""How all collections treat Python's values in updates, filters and sort orders."""

import dataclasses
import random
from collections import deque
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from bus.errors import ProjectionError
from bus.stores.collections import Changes, Collections, ReadUnit, Target, Write, Writer
from bus.stores.documents.values import LENIENT


class Colour(Enum):
    """A plain enum."""

    RED = "red"
    BLUE = "blue"


class Word(StrEnum):
    """An enum that is text."""

    YES = "yes"
    NO = "no"


class Level(IntEnum):
    """An enum that is a number."""

    LOW = 1
    HIGH = 2


class Shape(Enum):
    """An enum whose members cannot be recognised from their stored values."""

    SQUARE = (1, 1)


class Line(BaseModel):
    """A model with an alias in one direction only, and a field that is not serialized."""

    price: Decimal
    due: date = Field(serialization_alias="dueDate")
    note: str = Field(default="", exclude=True)


class Discounted(Line):
    """A subclass with a field of its own."""

    discount: int = 10


class Order(BaseModel):
    """A model of models."""

    lines: list[Line]


class Hidden(BaseModel):
    """A model that cannot be stored."""

    token: SecretStr


@dataclasses.dataclass(frozen=True)
class Place:
    """A dataclass."""

    name: str
    since: datetime | None = None


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: Decimal


ZONE = timezone(timedelta(hours=2))
MOMENT = datetime(2024, 2, 29, 12, 30, 0, 123000, tzinfo=UTC)

IN_ORDER: dict[str, tuple[Any, list[Any]]] = {
    "Decimal": (
        Decimal,
        [Decimal("-1E+30"), Decimal("-0.5"), Decimal(0), Decimal("1.10"), Decimal("9"),
         Decimal("10"), Decimal("1234567890123456789012345678901234")],
    ),
    "date": (date, [date(1, 1, 1), date(999, 12, 31), date(2024, 2, 29), date(9999, 12, 31)]),
    "datetime": (
        datetime,
        [datetime(1, 1, 2, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
         MOMENT.astimezone(ZONE), MOMENT + timedelta(milliseconds=1)],
    ),
    "time": (time, [time(0), time(9, 5), time(9, 5, 0, 1), time(9, 5, 1), time(23, 59)]),
    "timedelta": (
        timedelta,
        [timedelta(-1), timedelta(0), timedelta(microseconds=1), timedelta(seconds=1.5),
         timedelta(hours=12), timedelta(days=100_000)],
    ),
    "UUID": (UUID, [UUID(int=0), UUID(int=10**37), UUID(int=2**128 - 1)]),
    "Path": (PurePosixPath, [PurePosixPath("/a"), PurePosixPath("/b/c")]),
    "StrEnum": (Word, [Word.NO, Word.YES]),
    "IntEnum": (Level, [Level.LOW, Level.HIGH]),
    "bytes": (bytes, [b"", b"\x00\xff"]),
}  # fmt: skip
"""By type, values in ascending order."""

OTHERS: dict[str, tuple[Any, Any]] = {
    "Enum": (Colour, Colour.BLUE),
    "set": (set[str], {"b", "a", "c"}),
    "frozenset": (frozenset[UUID], frozenset([UUID(int=2), UUID(int=1)])),
    "set of mixed types": (set[int | str], {1, "a", 2, "b"}),
    "set of tuples": (set[tuple[int, str]], {(2, "b"), (1, "a")}),
    "tuple": (tuple[int, Decimal], (1, Decimal("1.5"))),
    "named tuple": (Pair, Pair(1, Decimal("1.5"))),
    "deque": (deque[date], deque([date(2024, 1, 1)])),
    "bytearray": (bytes, bytearray(b"x")),
    "address": (IPv4Address, IPv4Address("10.0.0.1")),
    "model": (Line, Line(price=Decimal("1.10"), due=date(2024, 1, 1), note="x")),
    "model of models": (Order, Order(lines=[Line(price=Decimal(1), due=date(2024, 1, 1))])),
    "dataclass": (Place, Place("x", MOMENT)),
    "dict": (
        dict[date, dict[UUID, list[Decimal]]],
        {date(2024, 1, 1): {UUID(int=1): [Decimal("1.5")]}},
    ),
    "dict by numbers": (dict[Level, int], {Level.LOW: 1}),
    "text": (str, "x"),
    "int beyond 32 bits, where a float may be": (int | float, 2**53 + 1),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "naive datetime": (datetime(2024, 1, 1), "without a zone.*value.replace"),
    "time with a zone": (time(9, tzinfo=UTC), "with a zone.*field of its own"),
    "long decimal": (Decimal("1." + "1" * 40), "34 digits.*round it"),
    "no number": (Decimal("NaN"), "no number"),
    "huge timedelta": (timedelta(days=10**8, microseconds=1), "to the microsecond"),
    "enum of tuples": (Shape.SQUARE, "SQUARE cannot be read back"),
    "secret": (SecretStr("x"), r"SecretStr.*get_secret_value\(\)"),
    "secret in a model": (Hidden(token=SecretStr("x")), "token'.*SecretStr"),
    "subclass in a model": (
        Order(lines=[Discounted(price=Decimal(1), due=date(2024, 1, 1))]),
        "lines'.*read back otherwise by Order",
    ),
    "key": ({1.5: "x"}, "key of type float"),
    "same keys": ({1: "x", "1": "y"}, "two keys"),
    "generator": ((one for one in "ab"), "generator"),
    "object": (object(), "object.*no form"),
    "deep within": ([{"a": [object()]}], "0.a.0'"),
}
KEPT = {**{name: (kind, values[-1]) for name, (kind, values) in IN_ORDER.items()}, **OTHERS}


class ValuesContract:
    """Tests values. Supply the fixtures `collections`, `target` and `writer`."""

    async def test_a_value_is_read_back_and_found_as_it_was_written(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        sets = {f"{name}.v": value for name, (_, value) in KEPT.items()}
        await write(writer, {"a": {"$set": sets}, "b": {"$set": dict.fromkeys(sets, "other")}})
        documents = collections.documents(target)
        for name, (kind, value) in KEPT.items():
            path = f"{name}.v"
            for filter in (
                {path: value},
                {path: {"$eq": value}},
                {path: {"$in": (value, None)}},
                {"$and": [{name: {"v": value}}]},
            ):
                found = await documents.find(filter)
                assert [one["_id"] for one in found] == ["a"], filter
                assert await documents.count(filter) == 1
            assert read_as(kind, found[0][name]["v"]) == value
            assert [one["_id"] for one in await documents.find({path: {"$ne": value}})] == ["b"]

    async def test_values_are_sorted_and_compared_as_in_python(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        documents = collections.documents(target)

        async def found(name: str, asked: Mapping[str, Any], direction: int = 1) -> list[Any]:
            filter, sort = {name: {"$exists": True, **asked}}, [(name, direction)]
            return [
                read_as(IN_ORDER[name][0], one[name])
                for one in await documents.find(filter, sort=sort)
            ]

        for name, (_, values) in IN_ORDER.items():
            shuffled = random.Random(0).sample(values, len(values))
            await write(
                writer, {f"{name} {n}": {"$set": {name: one}} for n, one in enumerate(shuffled)}
            )
            assert await found(name, {}) == values
            assert await found(name, {}, -1) == values[::-1]
            for place, value in enumerate(values):
                assert await found(name, {"$gt": value}) == values[place + 1 :]
                assert await found(name, {"$lte": value}) == values[: place + 1]

    async def test_every_operator_takes_every_value(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        for name, (kind, value) in KEPT.items():
            updates: list[Mapping[str, Any]] = [
                {"$setOnInsert": {"made": value}, "$push": {"l": value}, "$addToSet": {"s": value}},
                {"$push": {"l": {"$each": (value, 1)}}, "$addToSet": {"s": {"$each": [value, 9]}}},
                {"$push": {"m": {"$each": [value, value], "$slice": 1}, "p": value}},
                {"$pull": {"p": value}, "$set": {"q": [value, 3]}},
                {"$pullAll": {"q": [value]}},
            ]
            await write(writer, {name: updates})
            found = await collections.documents(target).find_one({"_id": name})
            assert found is not None
            form = found["made"]
            assert read_as(kind, form) == value
            assert found == {"_id": name, "made": form, "l": [form, form, 1], "s": [form, 9],
                             "m": [form], "p": [], "q": [3]}  # fmt: skip

    async def test_the_greatest_and_the_least_are_kept(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        for name in ("Decimal", "date", "datetime", "time", "timedelta"):
            kind, values = IN_ORDER[name]
            shuffled = random.Random(1).sample(values, len(values))
            updates = [{"$max": {"most": one}, "$min": {"least": one}} for one in shuffled]
            await write(writer, {name: list(updates)})
            found = await collections.documents(target).find_one({"_id": name})
            assert found is not None
            assert read_as(kind, found["least"]) == values[0]
            assert read_as(kind, found["most"]) == values[-1]

    async def test_decimals_are_added_exactly_and_durations_to_the_microsecond(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        update = {"$inc": {"total": Decimal("0.10"), "spent": timedelta(microseconds=100_001)}}
        more = {"$inc": {"total": 2, "spent": timedelta(1)}, "$mul": {"price": Decimal("1.5")}}
        start = {"$set": {"price": Decimal("1.10"), "rate": 0.1}}
        rise = {"$inc": {"rate": Decimal("0.2")}}
        await write(writer, {"a": [start, update, update, update, more, rise]})
        documents = collections.documents(target)
        (found,) = await documents.find({})
        assert found["total"] == Decimal("2.30")
        assert found["price"] == Decimal("1.650")
        assert found["rate"] == Decimal("0.3")
        assert read_as(timedelta, found["spent"]) == timedelta(days=1, microseconds=300_003)
        assert await documents.count({"total": {"$gt": Decimal("2.29"), "$lt": 3}}) == 1
        assert await documents.count({"price": {"$in": {Decimal("1.65")}}}) == 1

    async def test_a_set_has_one_order_whatever_it_was_made_of(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        names = [f"tag {n}" for n in range(50)]
        sets = {key: set(random.Random(key).sample(names, 50)) for key in ("a", "b", "c")}
        await write(writer, {key: {"$set": {"v": one}} for key, one in sets.items()})
        found = await collections.documents(target).find({"v": frozenset(names)})
        assert [one["v"] for one in found] == [sorted(names)] * 3

    async def test_what_would_not_be_read_back_is_refused_with_a_remedy(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"n": 1}})
            for value, words in REFUSED.values():
                with pytest.raises(ProjectionError, match=rf"'a', \$set of 'v'.*{words}"):
                    await unit.documents.update("a", {"$set": {"v": value}})
                with pytest.raises(ProjectionError, match="the filter, at 'v"):
                    await unit.documents.find({"v": value})
            return Changes([], {"job-a": 1})

        await writer.transact(["job-a"], fold)
        documents = collections.documents(target)
        for value, words in REFUSED.values():
            with pytest.raises(ProjectionError, match=words):
                await write(writer, {"b": {"$push": {"v": {"$each": [value]}}}})
            with pytest.raises(ProjectionError, match="the filter, at 'v"):
                await documents.count({"v": {"$in": [value]}})
        assert await documents.find({}) == [{"_id": "a", "n": 1}]

    async def test_a_datetime_keeps_its_instant_to_the_millisecond(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        moment = MOMENT.replace(microsecond=123_456).astimezone(ZONE)
        await write(writer, {"a": {"$set": {"v": moment}}})
        (found,) = await collections.documents(target).find({"v": moment})
        assert found["v"] == MOMENT
        assert found["v"].utcoffset() == timedelta(0)


def read_as(kind: Any, form: Any) -> Any:
    """Returns a stored form as a view reads it."""
    return TypeAdapter(kind).validate_python(form, **LENIENT)


async def write(
    writer: Writer, updates: Mapping[str, Mapping[str, Any] | list[Mapping[str, Any]]]
) -> None:
    """Writes updates by key, in one transaction that folds an event from each key's stream."""
    writes = [
        Write(key, one)
        for key, some in updates.items()
        for one in (some if isinstance(some, list) else [some])
    ]

    async def fold(unit: ReadUnit) -> Changes:
        return Changes(writes, {f"job-{key}": 1 for key in updates})

    await writer.transact([f"job-{key}" for key in updates], fold)

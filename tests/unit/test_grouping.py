"""What may be asked of groups, and that MongoDB is told nothing else."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from bus import Documents
from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.stores.collections import Target
from bus.stores.grouping import COUNT, grouping_of
from bus.stores.memory.documents import MemoryDocuments, Tables
from bus.stores.memory.totals import groups
from bus.stores.mongo.documents import row_of, stages_of


class View(BaseModel):
    id: str


@pytest.fixture
def documents() -> Documents[View]:
    return Documents(MemoryDocuments(Tables(), Target("views", "views", True)), View)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"by": "_version"}, "_version is the bus's own field"),
        ({"by": "_hidden.x"}, "_hidden is the bus's own field"),
        ({"by": "$city"}, "'\\$city' is no field"),
        ({"by": ""}, "'' is no field"),
        ({"by": ["a..b"]}, "'a..b' is no field"),
        ({"by": ["a", "a"]}, "by different fields"),
        ({"by": (), "totals": {}}, "a total at least"),
        ({"by": "a", "totals": {"a": COUNT}}, "'a' is no name"),
        ({"by": "a", "totals": {"$n": COUNT}}, "'\\$n' is no name"),
        ({"by": "a", "totals": {"a.b": COUNT}}, "'a.b' is no name"),
        ({"by": "a", "totals": {"n": {"$sum": 2}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$sum": True}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$max": 1}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$sum": "pay"}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$sum": "$pay", "$max": "$pay"}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$accumulator": {"init": "x"}}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$sum": {"$function": {}}}}}, "n is one of"),
        ({"by": "a", "totals": {"n": {"$sum": "$$ROOT"}}}, "'\\$ROOT' is no field"),
        ({"by": "a", "totals": {"n": {"$max": "$_version"}}}, "_version is the bus's own"),
        ({"by": "a", "sort": [("b", 1)]}, "cannot be sorted by .'b', 1.; sort by one of a, count"),
        ({"by": "a", "sort": [("a", "up")]}, "cannot be sorted by"),
        ({"by": "a", "filter": {"$where": "1"}}, "no script"),
        ({"by": "a", "filter": {"$expr": {"$function": {}}}}, "no script"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_the_remedy(
    documents: Documents[View], asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(ProjectionError, match=why):
        await documents.group(**asked)


@pytest.mark.parametrize("field", ["_version", "_hidden", "$a", "", 3])
async def test_different_values_are_of_fields_that_readers_see(
    documents: Documents[View], field: Any
) -> None:
    with pytest.raises(ProjectionError):
        await documents.distinct(field)
    with pytest.raises(ProjectionError, match="no script"):
        await documents.distinct("a", {"$where": "1"})


class PerCity(BaseModel):
    city: str
    count: int


async def test_a_group_that_is_not_as_its_model_says_is_refused_without_its_values() -> None:
    tables, target = Tables(), Target("views", "views", True)
    tables.insert(target, [{"_id": "a", "city": "Ulm"}, {"_id": "b", "city": 4711}])
    documents = Documents(MemoryDocuments(tables, target), View)
    assert await documents.group("city", {"_id": "a"}, row=PerCity) == [
        PerCity(city="Ulm", count=1)
    ]
    with pytest.raises(
        ProjectionError, match=r"read as PerCity: city: .*the fields city, count"
    ) as no:
        await documents.group("city", row=PerCity)
    assert "4711" not in str(no.value)


def test_names_of_fields_do_not_meet_those_of_mongodb() -> None:
    totals = {"_id": COUNT, "k0": {"$max": "$at.day"}}
    grouping = grouping_of(["k1", "at.hour"], totals, [("_id", -1)], 5)
    assert stages_of(grouping) == [
        {
            "$group": {
                "_id": {"k0": {"$ifNull": ["$k1", None]}, "k1": {"$ifNull": ["$at.hour", None]}},
                "t0": {"$sum": 1},
                "t1": {"$max": "$at.day"},
            }
        },
        {"$sort": {"t0": -1, "_id.k0": 1, "_id.k1": 1}},
        {"$limit": 5},
    ]
    found = {"_id": {"k0": 1, "k1": None}, "t0": 2, "t1": 3}
    assert row_of(grouping, found) == {"k1": 1, "at.hour": None, "_id": 2, "k0": 3}


def test_what_memory_would_round_otherwise_it_does_not_tell() -> None:
    grouping = grouping_of((), {"sum": {"$sum": "$n"}, "mean": {"$avg": "$n"}}, (), 0)
    exact: list[Document] = [{"n": Decimal("0.1")}, {"n": 2}]
    assert groups(exact, grouping) == [{"sum": Decimal("2.1"), "mean": Decimal("1.05")}]
    with pytest.raises(ProjectionError, match="no common total"):
        groups([*exact, {"n": 0.5}], grouping)


def test_sums_of_what_is_infinite_are_told() -> None:
    grouping = grouping_of((), {"sum": {"$sum": "$n"}}, (), 0)
    (row,) = groups([{"n": float("inf")}, {"n": float("-inf")}], grouping)
    assert row["sum"] != row["sum"]

"""Filters and orders in memory: what is left to others.

That the rest is as MongoDB selects and sorts is checked beside MongoDB, in the contract.
"""

from typing import Any

import pytest

from bus.stores.documents.applying import Beyond
from bus.stores.documents.matching import in_order, matcher

DOCUMENT = {"_id": "a", "n": 1, "of": [{"b": 1}], "list": [1, 2], "in": {}}


@pytest.mark.parametrize(
    "filter",
    [
        {"$where": "true"},
        {"$text": {"$search": "x"}},
        {"$or": []},
        {"n": {"$regex": "x"}},
        {"n": {"$type": "int"}},
        {"n": {"$exists": 1}},
        {"n": {"$gt": None}},
        {"n": {"$gt": True}},
        {"n": {"$in": 1}},
        {"n": {"$not": 1}},
        {"n": {"$size": 1.0}},
        {"n": {}},
        {"n": b"x"},
        {"in": {"b": 1}},
        {"list": [1, 2]},
        {"list.0": 1},
        {"of.b": 1},
        {"": 1},
    ],
    ids=str,
)
def test_what_only_the_database_can_select_is_left_to_it(filter: dict[str, Any]) -> None:
    with pytest.raises(Beyond):
        matcher(filter)(DOCUMENT)


@pytest.mark.parametrize(
    "sort",
    [[("list", 1)], [("in", 1)], [("of.b", 1)], [("n", 2)], [("n", True)], [("list.0", 1)]],
    ids=str,
)
def test_what_only_the_database_can_sort_is_left_to_it(sort: list[tuple[str, Any]]) -> None:
    with pytest.raises(Beyond):
        in_order([DOCUMENT], sort)


def test_documents_are_sorted_by_the_first_field_first() -> None:
    documents = [{"_id": n, "a": n % 2, "b": -n} for n in range(5)]
    assert [one["_id"] for one in in_order(documents, [("a", -1), ("b", 1)])] == [3, 1, 4, 2, 0]
    assert [one["_id"] for one in in_order(documents, [("none", 1)])] == [0, 1, 2, 3, 4]

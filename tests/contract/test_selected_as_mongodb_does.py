"""Filters and orders in memory select and sort as MongoDB does."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from bus.stores.documents.applying import Beyond
from bus.stores.documents.matching import in_order, matcher
from bus.stores.documents.values import stored

NAN = float("nan")
TIMES = st.sampled_from([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)])
SCALARS = st.one_of(
    st.integers(-2, 2),
    st.sampled_from([0.1, 0.5, 1.0, -0.0, 2.0**60, float("inf"), NAN, 2**60 + 1]),
    st.sampled_from([Decimal("0.1"), Decimal("0.50"), Decimal(1), Decimal(2**60)]),
    st.sampled_from(["", "a", "b", "é", "\U0001f600", "\uffff"]),
    st.none(),
    st.booleans(),
    TIMES,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)
DOCUMENTS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3), min_size=1, max_size=5
)
NAMES = st.sampled_from(["a", "b", "c", "a.b", "b.a", "a.a.b", "d"])
CONDITIONS = st.one_of(
    SCALARS,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"], SCALARS),
            **dict.fromkeys(["$in", "$nin"], st.lists(SCALARS, max_size=3)),
            "$exists": st.booleans(),
            "$size": st.integers(0, 2),
            "$not": st.dictionaries(st.sampled_from(["$gt", "$eq"]), SCALARS, min_size=1),
        },
    ).filter(bool),
)
PLAIN = st.dictionaries(NAMES, CONDITIONS, max_size=2)
FILTERS = st.one_of(
    PLAIN,
    st.dictionaries(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(PLAIN, min_size=1, max_size=2)
    ),
)
SORTS = st.lists(
    st.tuples(NAMES, st.sampled_from([1, -1])), max_size=2, unique_by=lambda one: one[0]
)


@pytest.fixture(scope="module")
def scratch(mongo_url: str) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        yield client["matching"]["scratch"]
        client.drop_database("matching")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
@given(documents=DOCUMENTS, filters=st.lists(FILTERS, min_size=1, max_size=6))
@example(
    documents=[{"a": 0.1}, {"a": Decimal("0.1")}, {"a": Decimal("1.0")}, {"a": 1}, {"a": 2**60}],
    filters=[
        {"a": {operator: value}}
        for operator in ("$eq", "$gt", "$lte")
        for value in (0.1, Decimal("0.1"), Decimal(1), 1.0, 2.0**60, Decimal(2**60 + 1))
    ],
)
@example(
    documents=[{"a": value} for value in (1, NAN, [NAN], None, float("inf"), Decimal(1))] + [{}],
    filters=[
        {"a": asked}
        for value in (NAN, 1, Decimal(1), float("-inf"))
        for asked in (
            value,
            *({operator: value} for operator in ("$ne", "$gt", "$gte", "$lt", "$lte")),
            *({operator: [value]} for operator in ("$in", "$nin")),
        )
    ],
)
def test_documents_are_selected_as_mongodb_does(
    scratch: Any, documents: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> None:
    numbered = _stored(scratch, documents)
    for filter in filters:
        try:
            matches = matcher(filter)
            selected = [one["_id"] for one in numbered if matches(one)]
        except Beyond:
            event("left to others")
            continue
        event("selected")
        found = scratch.find(stored(filter)).sort("_id")
        assert selected == [one["_id"] for one in found], filter


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(documents=DOCUMENTS, sorts=st.lists(SORTS, min_size=1, max_size=4))
def test_documents_are_sorted_as_mongodb_does(
    scratch: Any, documents: list[dict[str, Any]], sorts: list[list[tuple[str, int]]]
) -> None:
    numbered = _stored(scratch, documents)
    for sort in sorts:
        try:
            found = [one["_id"] for one in in_order(numbered, sort)]
        except Beyond:
            continue
        assert found == [one["_id"] for one in scratch.find().sort([*sort, ("_id", 1)])], sort


def _stored(scratch: Any, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    numbered = [{"_id": number, **document} for number, document in enumerate(documents)]
    scratch.delete_many({})
    scratch.insert_many(stored(numbered))
    return numbered

"""Updates applied in memory come out as MongoDB applies them."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest
from bson.decimal128 import Decimal128, create_decimal128_context
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import WriteError

from bus.errors import ProjectionError
from bus.stores.documents.applying import Beyond, apply
from bus.stores.documents.paths import Refused
from bus.stores.documents.updates import checked


def decimal128(value: Decimal) -> Decimal128:
    with localcontext(create_decimal128_context()):
        return Decimal128(+value)


NAMES = st.sampled_from(["a", "b", "a.b", "a.c", "b.d.e", "list", "list.1", "list.0.x", "n", "n2"])
DECIMALS = st.decimals(-(10**9), 10**9, places=3) | st.decimals(
    allow_nan=False, allow_infinity=False
)
NUMBERS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.1, -0.0]),
    DECIMALS.map(decimal128),
)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
VALUES = st.one_of(
    NUMBERS,
    st.text(max_size=3),
    MOMENTS,
    st.none(),
    st.booleans(),
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(st.sampled_from(["b", "c", "x"]), st.integers(0, 9), max_size=2),
)
FIELDS = {
    "$set": VALUES,
    "$setOnInsert": VALUES,
    "$unset": st.just(""),
    "$inc": NUMBERS,
    "$mul": NUMBERS,
    "$push": VALUES,
    "$max": VALUES,
    "$min": VALUES,
    "$addToSet": VALUES | st.fixed_dictionaries({"$each": st.lists(VALUES, max_size=3)}),
    "$pop": st.sampled_from([1, -1, 2]),
    "$pull": VALUES,
    "$pullAll": st.lists(VALUES, max_size=2),
    "$bit": st.dictionaries(st.sampled_from(["and", "or", "xor"]), st.integers(0, 9), min_size=1),
    "$rename": NAMES,
}
UPDATES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.dictionaries(NAMES, values, min_size=1, max_size=2)
            for name, values in FIELDS.items()
        },
    ).filter(bool),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def scratch(mongo_url: str) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](mongo_url, tz_aware=True) as client:
        yield client["applying"]["scratch"]
        client.drop_database("applying")


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(updates=UPDATES)
def test_a_document_is_as_mongodb_makes_it(scratch: Any, updates: list[dict[str, Any]]) -> None:
    scratch.delete_many({})
    document: dict[str, Any] | None = None
    for update in updates:
        try:
            document = apply(deepcopy(document), checked("k", update))
        except Beyond:
            event("left to the database")
            return
        except (ProjectionError, Refused):
            with pytest.raises(WriteError):
                scratch.update_one({"_id": 1}, update, upsert=True)
            continue
        scratch.update_one({"_id": 1}, update, upsert=True)
        assert in_order(scratch.find_one({"_id": 1}, {"_id": 0})) == in_order(document)


def in_order(value: Any) -> Any:
    """With the order of fields, which tells nested objects apart in queries."""
    if isinstance(value, dict):
        return [(name, in_order(one)) for name, one in value.items()]
    return [in_order(one) for one in value] if isinstance(value, list) else value

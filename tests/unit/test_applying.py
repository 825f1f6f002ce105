"""Updates that are applied in memory: what is refused, and that nothing of others' is kept.

That the rest is as MongoDB applies it is checked beside MongoDB, in the contract.
"""

from typing import Any

import pytest
from bson import Decimal128, Regex

from bus.stores.documents.applying import Beyond, apply


@pytest.mark.parametrize(
    "update",
    [
        {"$pull": {"list": {"$gt": 1}}},
        {"$pull": {"list": [1]}},
        {"$push": {"list": {"$each": [1], "$sort": 1}}},
        {"$addToSet": {"list": {"$each": [1], "$more": 1}}},
        {"$currentDate": {"n": True}},
        {"$max": {"n": Regex("x")}},
        {"$inc": {"n": Decimal128("NaN")}},
        {"$set": {"list.$[]": 1}},
    ],
    ids=str,
)
def test_what_only_the_database_can_apply_is_left_to_it(update: dict[str, Any]) -> None:
    with pytest.raises(Beyond):
        apply({"n": 1, "text": "x", "flag": True, "list": [1]}, update)


def test_a_new_document_is_made_and_only_then_filled_by_set_on_insert() -> None:
    made = apply(None, {"$inc": {"n": 1}, "$setOnInsert": {"owner": "Ada"}})
    assert made == {"n": 1, "owner": "Ada"}
    assert apply(made, {"$setOnInsert": {"owner": "Bob"}}) == {"n": 1, "owner": "Ada"}


def test_what_a_handler_gives_stays_its_own() -> None:
    empty: list[int] = []
    document = apply(None, {"$set": {"entries": empty}})
    apply(document, {"$push": {"entries": 1}})
    assert empty == []
    assert document == {"entries": [1]}

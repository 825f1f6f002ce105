"""Updates that are applied in memory: what is refused, and that nothing of others' is kept.

That the rest is as MongoDB applies it is checked beside MongoDB, in the contract.
"""

from typing import Any

import pytest

from bus.stores.applying import Beyond, apply


@pytest.mark.parametrize(
    "update",
    [
        {"$pull": {"n": 1}},
        {"$inc": {"text": 1}},
        {"$inc": {"flag": 1}},
        {"$inc": {"n": "1"}},
        {"$inc": {"n": 2**63 - 1}},
        {"$push": {"n": 1}},
        {"$push": {"list": {"$each": [1], "$slice": 2}}},
        {"$push": {"list": {"$each": 1}}},
        {"$max": {"text": 1}},
        {"$max": {"n": None}},
        {"$set": {"n.a": 1}},
        {"$set": {"list.0": 1}},
        {"$set": {"list.$[]": 1}},
        {"$set": {"a": 1}, "$inc": {"a": 1}},
        {"$set": {"a": {}}, "$inc": {"a.b": 1}},
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

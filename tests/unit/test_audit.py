import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.data.payload import Document
from bus.rebuild.drift import Difference, differing


@pytest.mark.parametrize(
    ("found", "expected", "kind"),
    [
        (None, {"_id": "a"}, "missing"),
        ({"_id": "a", "_hidden": True}, {"_id": "a"}, "missing"),
        ({"_id": "a"}, None, "stray"),
        ({"_id": "a", "b": 1}, {"_id": "a"}, "differs"),
    ],
)
def test_kinds_of_differences(found: Document | None, expected: Document | None, kind: str) -> None:
    assert Difference("a", found, expected).kind == kind


DOCUMENTS = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 2))


@given(DOCUMENTS, DOCUMENTS, st.integers(1, 4))
def test_pages_of_two_collections_are_compared_key_by_key(
    here: dict[str, int], there: dict[str, int], size: int
) -> None:
    def page(of: dict[str, int], after: str) -> list[Document]:
        keys = sorted(key for key in of if key > after)
        return [{"_id": key, "n": of[key]} for key in keys[:size]]

    found: list[str] = []
    after: str | None = ""
    while after is not None:
        after, some = differing(page(here, after), page(there, after), size)
        found += some
    assert sorted(found) == sorted(
        key for key in here.keys() | there.keys() if here.get(key) != there.get(key)
    )

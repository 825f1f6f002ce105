"""What is no index is refused where the projection is declared."""

import re
from typing import Any

import pytest
from pydantic import BaseModel

from bus import Aggregate, ConfigurationError, Index, Projection


class Shelf(Aggregate):
    pass


class ShelfView(BaseModel):
    owner: str = ""


def declared(indexes: Any) -> Projection[ShelfView]:
    return Projection("shelves", of=[Shelf], view=ShelfView, indexes=indexes)


NO_INDEXES: list[Any] = [
    [Index(("n", 1))],  # type: ignore[arg-type]
    [Index(())],
    [Index("n")],  # type: ignore[arg-type]
    [Index((("n", "asc"),))],
    [Index((("n", 2),))],
    [Index((("n", True),))],
    [Index((("", 1),))],
    [Index((("n",),))],  # type: ignore[arg-type]
    Index((("n", 1),)),
    (Index((("n", 1),)), "n"),
    "n",
    5,
    None,
]


@pytest.mark.parametrize("indexes", NO_INDEXES, ids=repr)
def test_what_is_no_index_is_refused_with_the_remedy(indexes: Any) -> None:
    remedy = r"indexes=.*: write a list of Index, .*\(\(\(\"owner\", 1\),\)\)\], with a comma"
    with pytest.raises(ConfigurationError, match=remedy):
        declared(indexes)


def test_indexes_of_every_kind_are_declared() -> None:
    kinds: list[Any] = [1, -1, "text", "hashed", "2dsphere"]
    indexes = [Index((("owner", kind),)) for kind in kinds]
    assert declared([*indexes, Index((("a", 1), ("b.c", -1)), unique=True)]).indexes[:5] == tuple(
        indexes
    )


NO_PATHS: list[tuple[str, Any]] = [
    *(("$x", 1), ("a..b", 1), (".a", 1), ("a.", -1), ("a.$b", "text"), ("$", 1)),
    *(("a\0b", 1), ("a.$**.b", 1), ("$**", "hashed"), ("a.$**", "text")),
]
NOT_MADE: list[tuple[list[Index], str]] = [
    *(
        ([Index(((path, kind),))], f"{re.escape(repr(path))} is no path to a field, .*; correct it")
        for path, kind in NO_PATHS
    ),
    ([Index((("n", 1), ("m", 1), ("n", -1)))], "it names a field twice; name it once"),
    ([Index(tuple((f"f{n}", 1) for n in range(33)))], "it has 33 fields, and MongoDB takes 32"),
    ([Index((("a", "hashed"), ("b", "hashed")))], "hashed and hashed cannot be in one index"),
    ([Index((("a", "text"), ("b", "2dsphere")))], "text and 2dsphere cannot be in one index"),
    ([Index((("a", 1), ("b", "2d")))], "2d is for the first field of an index alone"),
    ([Index((("_id", -1),))], "MongoDB itself has an index of _id, .*; leave it out"),
    ([Index((("_id", 1),), unique=True)], "MongoDB itself has an index of _id, .*; leave it out"),
    ([Index((("a", "hashed"),), unique=True)], "a hashed index cannot be unique; let it be 1"),
    ([Index((("n", 1),)), Index((("n", 1),))], "an index of these fields is listed before it"),
    ([Index((("n", 1),)), Index((("n", 1),), unique=True)], "is listed before it; take one out"),
    ([Index((("a_1_b", 1),)), Index((("a", 1), ("b", 1)))], "MongoDB would name it as it does"),
    ([Index((("a", "text"),)), Index((("b", "text"),))], "one text index for .*; put the fields"),
]


@pytest.mark.parametrize(("indexes", "remedy"), NOT_MADE, ids=repr)
def test_what_mongodb_would_not_make_is_refused(indexes: list[Index], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\.\.\.Index\(.*\.\.\.\]: .*{remedy}"):
        declared(indexes)


def test_indexes_that_mongodb_makes_are_declared() -> None:
    made = [
        Index((("$**", 1),)),
        Index((("$**", "text"),)),
        Index((("a.$**", 1),)),
        Index((("_id", 1),)),
        Index((("_id", "hashed"),)),
        Index((("p", "2d"), ("a", 1))),
        Index((("a.0", 1),)),
        Index((("a$b", 1),)),
        Index((("n", 1), ("m", -1))),
        Index((("m", -1), ("n", 1))),
        Index((("n", -1),), unique=True),
        Index((("n", "hashed"),)),
        Index((("a", 1), ("b", "2dsphere"), ("c", "2dsphere"))),
    ]
    assert declared(made).indexes == tuple(made)

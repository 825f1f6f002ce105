"""What is no index is refused where the projection is declared."""

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

"""Paging: what all queries that return a list have in common."""

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from bus import Query

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Some of the items found, and how many there are in total."""

    total: int
    items: list[Item]


class Paged(Query[Page[Item]], Generic[Item]):
    """A query answered with a page: at most `limit` items, after the first `skip`."""

    skip: int = Field(default=0, ge=0, le=1_000_000)
    limit: int = Field(default=20, ge=1, le=100)

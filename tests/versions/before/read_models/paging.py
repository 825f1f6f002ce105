"""Paging: what all queries that answer with a list have in common."""

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from bus import Query

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Some of what was found, and how many there are in all."""

    total: int
    items: list[Item]


class Paged(Query[Page[Item]], Generic[Item]):
    """A query answered by a page: `limit` items at most, after the first `skip`."""

    skip: int = Field(default=0, ge=0, le=1_000_000)
    limit: int = Field(default=20, ge=1, le=100)

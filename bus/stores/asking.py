"""Checks queries of a read collection: filters, orders, and which part is returned. No I/O."""

from collections.abc import Mapping
from typing import Any

from bus.errors import ProjectionError


def check_mapping(filter: Any) -> None:
    """Raises: ProjectionError for what is not a filter."""
    if type(filter) is not dict and not isinstance(filter, Mapping):
        raise ProjectionError(
            f"the filter is of type {type(filter).__name__}; give a dict of fields and what they "
            f'are to be, as in {{"owner": "Ada"}}, or {{}} for all'
        )


def check_part(sort: Any, skip: Any, limit: Any) -> None:
    """Raises: ProjectionError for what is not a valid sort order, or part of the documents."""
    if sort != ():
        check_sort(sort)
    check_count("skip", skip, "none")
    check_count("limit", limit, "all")


def check_sort(sort: Any) -> None:
    """Raises: ProjectionError for what is not a list of fields and directions."""
    pairs = sort if isinstance(sort, list | tuple) else [None]
    if not all(isinstance(pair, list | tuple) and _is_order(*pair) for pair in pairs):
        raise ProjectionError(
            f"sort={sort!r:.100} is no list of fields and directions; write it as "
            f'[("name", 1)], or -1 for the highest first'
        )


def _is_order(path: Any = "", direction: Any = 0, *more: Any) -> bool:
    known = isinstance(direction, Mapping) or (type(direction) is int and direction in (1, -1))
    return isinstance(path, str) and bool(path) and known and not more


def check_count(name: str, given: Any, nothing: str) -> None:
    """Raises: ProjectionError for what is not a number of documents."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ProjectionError(
            f"{name}={given!r:.100}: give a whole number of documents, or 0 for {nothing}"
        )

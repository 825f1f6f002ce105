"""The query for a page of states that may match, in one statement, so that none slips through while
it is indexed anew.

It reads what stands at the places of all values, and looks through what is not indexed by them:
states that an earlier release wrote, or one that declared other indexes. Which digests of indexes
there are is known from earlier queries; a new one is told by the statement itself.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from bus.stores.event_log import Snapshot
from bus.stores.sql.schema import FOUND, MYSQL, state_fields, states

COLUMNS: Sequence[sa.Column[Any]] = [states.c[name] for name in Snapshot._fields]
UNINDEXED = 0
"""What `found_by` says of a state that has no places, or not those of its version. All else is
more."""


def all_of(category: str, after: str, size: int) -> sa.Select[Any]:
    """Returns the query for a page of all states of a category."""
    query = sa.select(*COLUMNS).where(states.c.category == category, states.c.stream > after)
    return query.order_by(states.c.stream).limit(size)


def may_match(
    category: str,
    places: Sequence[int],
    *,
    others: Collection[int],
    known: Collection[int],
    after: str,
    size: int,
) -> sa.Select[Any]:
    """Returns the query for a page of the states at all these places, and of those that are found
    by `others`, or by nothing.

    Its rows have besides, as `unknown`, by what other digest than those `known` states of the
    category are found: if there is one, the page may lack some. There is one row at least; its
    stream is null if nothing was found.
    """
    streams = [
        _at(places, after, size),
        *(streams_by(category, by, after, size) for by in sorted({UNINDEXED, *others})),
    ]
    keys = sa.union(*(part.subquery().select() for part in streams)).subquery()
    found = sa.select(*COLUMNS).join(keys, states.c.stream == keys.c.stream).subquery()
    unknown = sa.select(_unknown(category, known).label("unknown")).subquery()
    query = sa.select(unknown.c.unknown, *found.c)
    query = query.select_from(unknown.outerjoin(found, sa.true()))
    return query.order_by(found.c.stream).limit(size)


def next_found_by(category: str, after: int) -> sa.Select[Any]:
    """Returns the query for the next digest after `after` by which states are found."""
    own = states.c.found_by
    return sa.select(sa.func.min(own)).where(states.c.category == category, own > after)


def one_of(category: str, found_by: int) -> sa.Select[Any]:
    """Returns the query for shape and places of one state that is found by a digest."""
    where = sa.and_(states.c.category == category, states.c.found_by == found_by)
    return sa.select(states.c.shape, states.c.places).where(where).limit(1)


def _at(places: Sequence[int], after: str, size: int) -> sa.Select[Any]:
    first, *others = [state_fields.alias() for _ in places]
    query = sa.select(first.c.stream).where(first.c.place == places[0], first.c.stream > after)
    for other, place in zip(others, places[1:], strict=True):
        query = query.join(other, sa.and_(other.c.stream == first.c.stream, other.c.place == place))
    query = query.order_by(first.c.stream).limit(size)
    for table in (first, *others):
        query = _by(query, table, "PRIMARY")
    return query


def _by(query: sa.Select[Any], table: Any, index: Any) -> sa.Select[Any]:
    """Names the index for MariaDB and MySQL, which prefer another as long as their statistics are
    those of before a change of many states."""
    for name in sorted(MYSQL):
        query = query.with_hint(table, f"FORCE INDEX ({index})", name)
    return query


def streams_by(category: str, found_by: int, after: str, size: int) -> sa.Select[Any]:
    """Returns the query for a page of the streams whose states are found by a digest."""
    by = sa.and_(states.c.category == category, states.c.found_by == found_by)
    query = sa.select(states.c.stream).where(by, states.c.stream > after)
    return _by(query.order_by(states.c.stream).limit(size), states, FOUND.name)


def _unknown(category: str, known: Collection[int]) -> sa.ColumnElement[Any]:
    """Looks into the gaps between what is known: each is a look at the index, and no condition with
    "not" is."""
    own = states.c.found_by
    lowest = sa.select(sa.func.min(own)).where(states.c.category == category)
    edges: list[int | None] = [*sorted({UNINDEXED, *known}), None]
    gaps = [
        lowest.where(own > low) if high is None else lowest.where(own > low, own < high)
        for low, high in pairwise(edges)
    ]
    return sa.func.coalesce(*(gap.scalar_subquery() for gap in gaps))

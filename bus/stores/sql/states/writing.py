"""Writes states and their places, in one transaction.

A row of `bus_states` names its own places, so that what changes is known without a look: no place
is written twice, and none is taken away that stays. Whoever changes them holds the row's lock.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.data.ids import category_of
from bus.data.payload import Document
from bus.stores.records import NotOlder
from bus.stores.sql.schema import state_fields, states
from bus.stores.sql.states.places import Indexes, Places, places_of

OWN = ("stream", "version", "places")
STORED = (*OWN, "shape", "state")


async def put(
    connection: AsyncConnection, rows: Sequence[Document], *, over_equal: bool = False
) -> None:
    """Stores rows of states with their places, in place of older ones, or of equal ones as well.

    Raises: NotOlder, the driver's errors.
    """
    there = await _locked(connection, OWN, states.c.stream.in_([row["stream"] for row in rows]))
    before = {row.stream: row for row in there}
    for row in rows:
        await _put(connection, row, before.get(row["stream"]), over_equal)
    await _move(connection, [(row, before.get(row["stream"])) for row in rows])


async def _put(connection: AsyncConnection, row: Document, before: Any, over_equal: bool) -> None:
    if before is None:
        await connection.execute(states.insert().values(row))
    elif before.version < row["version"] + over_equal:
        await connection.execute(_update(row))
    else:
        raise NotOlder


async def index(
    connection: AsyncConnection, streams: Sequence[str], found_by: int, fields: frozenset[str]
) -> None:
    """Gives the states of streams, as far as they are `found_by` the same still, places by other
    fields. Raises: the driver's errors."""
    where = sa.and_(states.c.stream.in_(streams), states.c.found_by == found_by)
    there = await _locked(connection, STORED, where)
    if there:
        rows = [indexed(row._mapping, fields) for row in there]
        await connection.execute(_update_all(rows))
        await _move(connection, list(zip(rows, there, strict=True)))


def indexed(state: Any, fields: frozenset[str]) -> Document:
    """Returns the row of a state, indexed by these fields, or by none if it cannot be."""
    row = {name: state[name] for name in ("stream", "version", "shape", "state")}
    row["category"] = category_of(row["stream"])
    places = places_of(row["category"], row["state"], fields)
    if places is None:
        return {**row, "places": {}, "indexes": None, "indexed": None}
    digest = Indexes(row["shape"], fields).digest
    return {**row, "places": places, "indexes": digest, "indexed": row["version"]}


async def _locked(
    connection: AsyncConnection, names: Sequence[str], where: sa.ColumnElement[bool]
) -> Sequence[sa.Row[Any]]:
    query = sa.select(*(states.c[name] for name in names)).where(where)
    query = query.order_by(states.c.stream).with_for_update()
    return (await connection.execute(query)).all()


def _update(row: Document) -> sa.Update:
    return states.update().where(states.c.stream == row["stream"]).values(row)


def _update_all(rows: Sequence[Document]) -> sa.Update:
    """Returns one statement that says of many rows how they are indexed: one for each would take
    ten times as long."""
    columns = [states.c[name] for name in ("places", "indexes", "indexed")]
    streams = [row["stream"] for row in rows]
    return (
        states.update()
        .where(states.c.stream.in_(streams))
        .values({own: _by_stream(own, rows) for own in columns})
    )


def _by_stream(column: sa.Column[Any], rows: Sequence[Document]) -> sa.ColumnElement[Any]:
    values = {row["stream"]: sa.literal(row[column.name], column.type) for row in rows}
    return sa.case(values, value=states.c.stream)


async def _move(connection: AsyncConnection, pairs: Sequence[tuple[Document, Any]]) -> None:
    """Brings the places of states from what they were before to what their rows say."""
    gone: list[sa.ColumnElement[bool]] = []
    new: list[Document] = []
    for row, before in pairs:
        stream, own = row["stream"], _all(row["places"])
        former = _all(before.places) if before else set()
        if former - own:
            left = state_fields.c.place.in_(sorted(former - own))
            gone.append(sa.and_(state_fields.c.stream == stream, left))
        new += [{"place": place, "stream": stream} for place in sorted(own - former)]
    if gone:
        await connection.execute(state_fields.delete().where(sa.or_(*gone)))
    if new:
        await connection.execute(state_fields.insert(), new)


def _all(places: Places | None) -> set[int]:
    return set(chain.from_iterable((places or {}).values()))

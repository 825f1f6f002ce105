"""Versions of streams, compared and moved: how a batch learns whether another writer was first.

Nothing is read before. The rows are locked in the order of the streams, and stay so until the
transaction ends: by them writers wait for one another.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.stores.sql.tables.making import checkpoints, has_versions
from bus.stores.sql.tables.writing.merging import merge

_MOVE = sa.text(
    "WITH given AS (SELECT * FROM unnest(:streams, :before, :versions)"
    " AS given (stream, before, version)), "
    # A table that was not analysed yet would be read as a whole: a lock keeps the planner from it.
    "known AS MATERIALIZED (SELECT given.stream, given.version FROM given CROSS JOIN LATERAL ("
    "SELECT FROM bus_checkpoints AS own WHERE own.collection = :collection"
    " AND own.stream = given.stream AND own.version = given.before FOR UPDATE) AS own"
    " WHERE given.before > 0), "
    "moved AS (INSERT INTO bus_checkpoints (collection, stream, version)"
    " SELECT :collection, known.stream, known.version FROM known"
    " ON CONFLICT (collection, stream) DO UPDATE SET version = excluded.version RETURNING 1), "
    "begun AS (INSERT INTO bus_checkpoints (collection, stream, version)"
    " SELECT :collection, given.stream, given.version FROM given WHERE given.before = 0"
    " AND EXISTS (SELECT FROM bus_checkpoints WHERE collection = :collection AND stream = '')"
    " RETURNING 1) "
    "SELECT (SELECT count(*) FROM moved) + (SELECT count(*) FROM begun)"
).bindparams(
    sa.bindparam("collection", type_=sa.Text),
    sa.bindparam("streams", type_=postgresql.ARRAY(sa.Text)),
    sa.bindparam("before", type_=postgresql.ARRAY(sa.BigInteger)),
    sa.bindparam("versions", type_=postgresql.ARRAY(sa.BigInteger)),
)

_HALF = 32
"""Bits: what MariaDB and MySQL are given of a stream holds both versions, before and after."""


async def advance(
    connection: AsyncConnection,
    collection: str,
    versions: Mapping[str, int],
    before: Mapping[str, int],
) -> bool:
    """Moves streams from their versions in `before` (0: never seen); returns whether all were there
    (if not, the transaction is to be undone). Raises: the driver's errors; one of these says that a
    stream exists already that was never seen."""
    streams = sorted(versions)
    if not streams:
        return True
    if connection.dialect.name == "postgresql":
        given = {
            "collection": collection,
            "streams": streams,
            "before": [before[stream] for stream in streams],
            "versions": [versions[stream] for stream in streams],
        }
        return bool((await connection.execute(_MOVE, given)).scalar_one() == len(streams))
    known = [stream for stream in streams if before[stream]]
    if known and not await _moved(connection, collection, known, versions, before):
        return False
    if new := [stream for stream in streams if not before[stream]]:
        if not (await connection.execute(sa.select(has_versions(collection)))).scalar_one():
            return False
        await connection.execute(sa.insert(checkpoints), list(_rows(collection, new, versions)))
    return True


async def _moved(
    connection: AsyncConnection,
    collection: str,
    streams: list[str],
    versions: Mapping[str, int],
    before: Mapping[str, int],
) -> bool:
    """Returns whether each of these streams was moved: a row that is left alone, because it has
    another version, or added, because there was none, does not count as two."""
    both = {stream: versions[stream] << _HALF | before[stream] for stream in streams}
    given = list(_rows(collection, streams, both))
    return await merge(connection, checkpoints, given, _moving) == 2 * len(streams)


def _moving(insert: mysql.Insert) -> mysql.Insert:
    given = insert.inserted.version
    is_there = checkpoints.c.version == given.op("&")(sa.literal_column(str(2**_HALF - 1)))
    after = given.op(">>")(sa.literal_column(str(_HALF)))
    moved = sa.func.if_(is_there, after, checkpoints.c.version)
    return insert.on_duplicate_key_update(version=moved)


def _rows(
    collection: str, streams: list[str], versions: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    for stream in streams:
        yield {"collection": collection, "stream": stream, "version": versions[stream]}

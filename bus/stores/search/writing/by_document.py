"""Writing a batch where each document is fed by one stream, and holds its version.

A document changes as a whole, by compare-and-set on what was read, and its version is part of it:
so each event is applied to it exactly once, whoever else writes. A batch may be stored in part; its
other documents are then at their versions before, which the next call finds.

An engine's own versions of documents ("external" ones) would not do: it forgets those of a deleted
document after `index.gc_deletes`, and an old event that comes later would raise it from the dead.
So nothing is deleted: what is removed stays, hidden, with its version. Compare-and-set also refuses
what was computed on another state, where an external version lets pass whatever has a higher one.
"""

from collections.abc import Mapping

from bus.data.ids import key_of
from bus.stores.collections import Changes, Write
from bus.stores.search.writing.records import (
    Held,
    Put,
    Records,
    applied,
    by_key,
    fields_of,
    source_of,
    version_of,
)
from bus.stores.search.writing.values import check_key


async def write(records: Records, changes: Changes, before: Mapping[str, int]) -> bool:
    """Writes a batch, as `Place.write`."""
    writes = by_key(changes.writes)
    keys = {stream: key_of(stream) for stream in changes.versions}
    for key in keys.values():
        check_key(key)
    # What was never seen is not read: it is made, if nothing is there.
    held = await records.recall([key for stream, key in keys.items() if before.get(stream, 0)])

    def others() -> list[str]:
        return [k for s, k in keys.items() if version_of(held.get(k)) != before.get(s, 0)]

    if left := others():
        held |= await records.read(left)
    if others():
        return False
    puts = [
        _put(key, held.get(key), writes[key], changes.versions[stream])
        for stream, key in keys.items()
    ]
    return not await records.put(puts)


async def load(records: Records, changes: Changes) -> set[str]:
    """Makes documents of all that their streams have brought, without reading any. Returns the
    streams of which a document is there already, and stays. Raises: what `Records.put` raises."""
    writes = by_key(changes.writes)
    streams = {key_of(stream): stream for stream in changes.versions}
    for key in streams:
        check_key(key)
    puts = [_put(k, None, writes[k], changes.versions[s]) for k, s in streams.items()]
    return {streams[key] for key in await records.put(puts)}


def _put(key: str, held: Held | None, writes: list[Write], version: int) -> Put:
    fields = fields_of(held)
    for change in writes:
        fields = applied(fields, change)
    return Put(key, source_of(key, fields, version=version), held)

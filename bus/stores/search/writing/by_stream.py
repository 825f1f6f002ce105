"""Writing a batch where several streams feed a document, in a store without transactions.

How far each stream was applied is a record of its own in the index: its *checkpoint*. A document
holds *marks*: for some streams the version of the last event that was applied to it. What holds at
any time, for each document D and stream s:

    D contains exactly the events of s that concern it, up to the greater of s's checkpoint and D's
    mark for s.                                                                                 (1)

A batch brings streams from the versions `before` to later ones. It is written so:

    a  read the documents that it changes (or recall what was read or stored before: it was that
       then, and (e) finds out if it is not that any more);
    b  read, after that, the checkpoints of its streams, and of those that these documents' marks
       name;
    c  if a stream of the batch is not at `before`, stop: another writer was first;
    d  apply to each document the events that are later than its mark for their stream, and mark
       their versions; drop the marks that the checkpoints of (b) cover;
    e  store each document, by compare-and-set on what (a) read; those that others changed meanwhile
       go through (a) to (e) again;
    f  only when all are stored, advance the checkpoints, by compare-and-set on what (b) read.

Why (1) survives each step, whoever else writes, and wherever a writer dies:

- Dropping a mark (d): the checkpoint has reached it and only grows, so the greater of both stays.
- Storing a document (e): by (c), the checkpoint of s was at `before` when it was read, after the
  document was. If it was still there when the document was stored, (1) says that the document had
  the events up to the greater of `before` and its mark, and it got exactly the later ones. Had
  another writer advanced the checkpoint between (b) and (e), then all documents that the events
  concern had been stored before, this one too; if after our (a), then our compare-and-set fails; if
  before our (a), then what we read had the mark, unless somebody dropped it, who had seen the
  checkpoint advanced, and stored the document before our (a), so that our (b) would have seen that
  too, and (c) had stopped us. That is why checkpoints are read after documents, not before.
- Advancing a checkpoint (f): every document that the events concern has been stored with them, and
  no later write takes them out: who changes a document keeps a mark, or knows it as covered.
- A crash between two documents, or before (f), leaves marks ahead of a checkpoint, as (1) allows:
  the batch comes again, perhaps cut otherwise, and (d) passes over what is marked.
- A batch that was stored in part, and then finds that another writer was first (c, f), has left
  only what (1) allows; its next try begins with the checkpoints as they are.
- A document that one stream removes and another writes again: removing keeps it, hidden, with its
  marks; else an event that was applied before would be applied to the new one once more.
- A document with nothing new in it is stored again all the same, and one that was removed before
  it was ever there is stored as hidden: else the checkpoint would advance past a slower writer, who
  has yet to store what it made of a part of the batch; and marks may have been read from a primary
  that dies with them.

What this relies on: a compare-and-set is decided by one primary; a read by id sees every write that
was acknowledged before it began. An engine that is divided may answer from a copy which does not
know yet that it was left behind; marks that were dropped within that time are then missing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice

from bus.common.backoff import Backoff
from bus.stores.collections import Changes, Write
from bus.stores.search.writing.records import (
    Fields,
    Held,
    Put,
    Records,
    applied,
    by_key,
    checkpoint,
    fields_of,
    id_of,
    marks_of,
    source_of,
    version_of,
)

TRIES = 20
"""Of documents that other writers change at the same time; after that the batch begins anew."""


async def write(records: Records, changes: Changes, before: Mapping[str, int]) -> bool:
    """Writes a batch, as `Place.write`."""
    writes = by_key(changes.writes)
    left = set(writes)
    for pause in islice(Backoff(0.002, 0.1), TRIES):
        documents = await records.recall(left)
        marks = {key: marks_of(documents.get(key)) for key in left}
        streams = {*changes.versions, *(stream for key in left for stream in marks[key])}
        points = await _checkpoints(records, streams)
        if any(version_of(points.get(s)) != before.get(s, 0) for s in changes.versions):
            return False
        reached = {stream: version_of(held) for stream, held in points.items()}
        puts = [_put(key, documents.get(key), writes[key], marks[key], reached) for key in left]
        left = await records.put(puts)
        if not left:
            return await _advance(records, changes.versions, points)
        await asyncio.sleep(pause)
    return False


async def _checkpoints(records: Records, streams: set[str]) -> dict[str, Held]:
    ids = {id_of(stream): stream for stream in streams}
    return {ids[id]: held for id, held in (await records.read(ids)).items()}


async def _advance(
    records: Records, versions: Mapping[str, int], points: Mapping[str, Held]
) -> bool:
    return not await records.put(
        Put(id_of(stream), checkpoint(stream, version), points.get(stream))
        for stream, version in versions.items()
    )


def _put(
    key: str,
    held: Held | None,
    writes: Sequence[Write],
    marks: Mapping[str, int],
    reached: Mapping[str, int],
) -> Put:
    """Returns a document as it is to be stored."""
    fields: Fields | None = fields_of(held)
    ahead = {s: mark for s, mark in marks.items() if mark > reached.get(s, 0)}
    for change in writes:
        # By the marks as they were read: one event may change a document more than once.
        if change.version > marks.get(change.stream, 0):
            fields = applied(fields, change)
            ahead[change.stream] = max(change.version, ahead.get(change.stream, 0))
    return Put(key, source_of(key, fields, marks=list(ahead.items())), held)

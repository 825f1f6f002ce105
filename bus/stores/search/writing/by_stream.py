"""Writing a batch where several streams feed a document, in a store without transactions.

How far each stream was applied is a record of its own in the index: its *checkpoint*. A document
holds *marks*: for some streams the version of the last event that was applied to it. What holds at
any time, for each document D and stream s:

    D contains exactly the events of s that concern it, up to the greater of s's checkpoint and D's
    mark for s.                                                                                 (1)

A batch brings streams from the versions `before` to later ones. It is written so:

    a  read the documents that it changes (or recall what was read or stored before: it was that
       then, and (e) finds out if it is not that any more);
    b  read, after that, the checkpoints of its streams (or recall those that are younger than what
       was read of these documents), and of those that marks name of documents with very many;
    c  if a stream of the batch is not at `before`, stop: another writer was first;
    d  apply to each document the events that are later than its mark for their stream, and mark
       their versions; drop the marks that checkpoints cover which are younger than what was read
       of the document;
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
- Recalling a document: what others made of it is known up to when it was last read (`answered`);
  if one of them has changed it since, (e) fails. So it is as if (a) had just read it.
- Recalling a checkpoint, in (b) and (d): it was read, or stored by compare-and-set, after the
  documents of its events were last read (`asked`, against their `answered`). That is all that the
  above asks of (b): at that moment (1) held of the checkpoint and the document, and since then
  the document has only been changed here, where each change adds its marks, and drops those that
  the checkpoint covers. If the checkpoint was advanced since by another writer, then that one
  has stored these documents too, and (e) fails; if it concerns none, (f) does.
- A document that is not there: no event that concerns it was applied, because even one that
  removes it has it stored, hidden. So any checkpoint will do for it, and a stream that was never
  seen may be taken to have none: if it has, (f) fails.
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
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

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

MOST_MARKS = 16
"""Of a document; from there on the checkpoints that allow to drop some are read."""
TRIES = 20
"""Of documents that other writers change at the same time; after that the batch begins anew."""


async def write(records: Records, changes: Changes, before: Mapping[str, int]) -> bool:
    """Writes a batch, as `Place.write`."""
    writes = by_key(changes.writes)
    left = set(writes)
    for pause in islice(Backoff(0.002, 0.1), TRIES):
        documents = await _documents(records, left, writes)
        points = await _checkpoints(records, _needed(changes.versions, documents), before)
        if any(version_of(points.get(s)) != before.get(s, 0) for s in changes.versions):
            return False
        left = await records.put([_put(document, points) for document in documents])
        if not left:
            return await _advance(records, changes.versions, points)
        await asyncio.sleep(pause)
    return False


class _Document(NamedTuple):
    """A document of a batch: what is held of it, what is known of it up to `answered`."""

    key: str
    held: Held | None
    answered: int
    marks: Mapping[str, int]
    writes: Sequence[Write]


async def _documents(
    records: Records, keys: Collection[str], writes: Mapping[str, Sequence[Write]]
) -> list[_Document]:
    found = await records.recall(keys)
    helds = ((key, found.get(key)) for key in keys)
    return [
        _Document(
            key,
            held,
            answered=held.answered if held else 0,
            marks=marks_of(held),
            writes=writes[key],
        )
        for key, held in helds
    ]


def _needed(streams: Iterable[str], documents: Iterable[_Document]) -> dict[str, int]:
    """Returns the streams whose checkpoints are needed, each with how young it has to be."""
    needed = dict.fromkeys(streams, 0)
    for document in documents:
        concerned = {write.stream for write in document.writes}
        if len(document.marks) > MOST_MARKS:
            concerned |= document.marks.keys()
        for stream in concerned:
            needed[stream] = max(document.answered, needed.get(stream, 0))
    return needed


async def _checkpoints(
    records: Records, needed: Mapping[str, int], before: Mapping[str, int]
) -> dict[str, Held]:
    """Returns checkpoints by stream, recalled where they are young enough and as they ought to be:
    else another writer's would be unknown for ever. A stream that was never seen has none to read,
    if any will do."""
    ids = {id_of(stream): stream for stream in needed}
    known = {ids[id]: held for id, held in records.known(ids).items()}
    young = {
        stream: held
        for stream, held in known.items()
        if held.asked >= needed[stream] and version_of(held) == before.get(stream, version_of(held))
    }

    def is_to_be_read(stream: str) -> bool:
        is_new = before.get(stream) == 0 and needed[stream] == 0 and stream not in known
        return stream not in young and not is_new

    read = await records.read([id for id, stream in ids.items() if is_to_be_read(stream)])
    return young | {ids[id]: held for id, held in read.items()}


async def _advance(
    records: Records, versions: Mapping[str, int], points: Mapping[str, Held]
) -> bool:
    return not await records.put(
        Put(id_of(stream), checkpoint(stream, version), points.get(stream))
        for stream, version in versions.items()
    )


def _put(document: _Document, points: Mapping[str, Held]) -> Put:
    """Returns a document as it is to be stored."""
    key, held, answered, marks, writes = document
    fields: Fields | None = fields_of(held)
    ahead = {s: mark for s, mark in marks.items() if mark > _reached(points.get(s), answered)}
    for change in writes:
        # By the marks as they were read: one event may change a document more than once.
        if change.version > marks.get(change.stream, 0):
            fields = applied(fields, change)
            ahead[change.stream] = max(change.version, ahead.get(change.stream, 0))
    return Put(key, source_of(key, fields, marks=list(ahead.items())), held)


def _reached(point: Held | None, answered: int) -> int:
    """Returns up to where a stream was applied for certain, for a document that was read then."""
    return version_of(point) if point and point.asked >= answered else 0

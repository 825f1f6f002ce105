"""How an index holds documents, and the versions of the streams that feed them. No I/O.

Besides its fields a document has `_bus`, an object of the bus's own:

    key      the document's key, by which it is sorted
    hidden   true for what readers must not find
    version  the version of the one stream that feeds it
    marks    where several streams feed it: (stream, version) pairs, see `by_stream`
    stream   in a record that says how far a stream was applied: the stream
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from bus.data.payload import Document
from bus.stores.collections import UNUSABLE, Write
from bus.stores.documents.updates import HIDDEN, VERSION
from bus.stores.search.writing.values import LONGEST_KEY, OF_STREAM, OWN, added, plain
from bus.stores.sink import Increment, Remove, Upsert

PROPERTIES: Mapping[str, Any] = {
    "properties": {
        "key": {"type": "keyword"},
        "stream": {"type": "keyword"},
        "hidden": {"type": "boolean"},
        "version": {"type": "long", "index": False, "doc_values": False},
        "marks": {"type": "object", "enabled": False},
    }
}
"""The mapping of `_bus`."""
SHOWN: Mapping[str, Any] = {"term": {f"{OWN}.hidden": False}}
"""What readers find."""
OF_DOCUMENTS: Mapping[str, Any] = {"exists": {"field": f"{OWN}.key"}}
OF_STREAMS: Mapping[str, Any] = {"exists": {"field": f"{OWN}.stream"}}

AHEAD = "_ahead"
"""Of a document as audits compare it: the streams of which it has more than is settled."""

Fields = dict[str, Any]


class Held(NamedTuple):
    """What an index holds under an id, and the number of its last change (with the term of the
    primary that gave it), by which another change says that it knew this one.

    It was held at a moment not before `asked`; and only this process has changed it since a moment
    not after `answered` (0: ever). Moments are numbers that grow.
    """

    source: Document
    number: int
    term: int
    asked: int = 0
    answered: int = 0


class Put(NamedTuple):
    """What an index is to hold under an id, in the place of what it is known to hold (None: of
    nothing). Without a source it is deleted."""

    id: str
    source: Document | None
    known: Held | None


class Records(Protocol):
    """What the writing of batches asks of an index."""

    async def read(self, ids: Iterable[str]) -> dict[str, Held]:
        """Returns what is held at present under these ids, refreshed or not; none for what is not
        there. Raises: StoreUnavailable."""
        ...

    async def recall(self, ids: Iterable[str]) -> dict[str, Held]:
        """Returns what `read` does, or, of some, what was held there before: to put something else
        there fails then, and after that it is not recalled again. Raises: StoreUnavailable."""
        ...

    def known(self, ids: Iterable[str]) -> dict[str, Held]:
        """Returns what it would recall of these ids without reading."""
        ...

    async def put(self, puts: Iterable[Put]) -> set[str]:
        """Stores each, durably, if what is held is still what is known. Returns the ids of those
        that were not stored because it is not.

        Raises: ProjectionError (the engine refuses one; others may be stored), StoreUnavailable,
        OutcomeUnknown (some may be stored).
        """
        ...


def id_of(stream: str) -> str:
    """Returns the id of the record that says how far a stream was applied."""
    id = f"{OF_STREAM}/{stream}"
    if len(id.encode()) <= LONGEST_KEY:
        return id
    return f"{OF_STREAM}#{hashlib.sha256(stream.encode()).hexdigest()}"


def checkpoint(stream: str, version: int) -> Document:
    """Returns the record that says how far a stream was applied."""
    return {OWN: {"stream": stream, "version": version, "hidden": True}}


def own(held: Held | None) -> Mapping[str, Any]:
    """Returns what the bus keeps with a document."""
    found = held.source.get(OWN) if held else None
    return found if isinstance(found, dict) else {}


def version_of(held: Held | None) -> int:
    """Returns the version in what is held: 0 if nothing is, `UNUSABLE` if there is none in it."""
    if held is None:
        return 0
    version = own(held).get("version")
    return version if type(version) is int and version > 0 else UNUSABLE


def marks_of(held: Held | None) -> dict[str, int]:
    """Returns the marks of a document, by stream."""
    return {str(stream): int(version) for stream, version in own(held).get("marks") or ()}


def fields_of(held: Held | None) -> Fields | None:
    """Returns a document's fields; None if there is no document, or a hidden one."""
    if held is None or own(held).get("hidden") is not False:
        return None
    return {name: value for name, value in held.source.items() if name != OWN}


def source_of(key: str, fields: Fields | None, **kept: Any) -> Document:
    """Returns what an index is to hold: a document, or without fields a hidden one."""
    return {**(fields or {}), OWN: {"key": key, "hidden": fields is None, **kept}}


def by_key(writes: Iterable[Write]) -> Mapping[str, list[Write]]:
    """Returns writes by the document that they change, in their order; none for others."""
    found = defaultdict[str, list[Write]](list)
    for write in writes:
        found[write.key].append(write)
    return found


def applied(fields: Fields | None, write: Write) -> Fields | None:
    """Returns a document's fields after a change; None if there is no document any more.

    Raises: ProjectionError.
    """
    match write.update:
        case Upsert(values=values):
            changed = {name: plain(value, name) for name, value in values.items()}
            return {**(fields or {}), **changed}
        case Increment(amounts=amounts):
            known = fields or {}
            return {**known, **{n: added(known.get(n), n, by) for n, by in amounts.items()}}
        case Remove():
            return None
    raise AssertionError(f"unknown change {write.update!r}")  # Sink.changes has no other


def shown(
    held: Held | None, *, versioned: bool, ahead: Mapping[str, int] | None = None
) -> Document | None:
    """Returns a document as audits compare it; None if there is none.

    With `versioned` it has its version, and a hidden one counts, by that. So does one that is
    `ahead`: a writer has stored it, and not said yet how far its streams were applied. What others
    stored without what the bus keeps is none.
    """
    if held is None or "key" not in own(held):
        return None
    key, fields = own(held)["key"], fields_of(held)
    hidden = {HIDDEN: True} if fields is None else {}
    if ahead:
        return {"_id": key, **(fields or {}), AHEAD: ahead, **hidden}
    if not versioned:
        return None if fields is None else {"_id": key, **fields}
    return {"_id": key, **(fields or {}), VERSION: own(held).get("version"), **hidden}


def stored(document: Document, *, versioned: bool) -> Document:
    """Returns what an index is to hold for a document as audits compare it."""
    names = {"_id", VERSION, HIDDEN, AHEAD}
    fields = {name: value for name, value in document.items() if name not in names}
    kept = {"version": document[VERSION]} if versioned else {}
    return source_of(document["_id"], None if HIDDEN in document else fields, **kept)

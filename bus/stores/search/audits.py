"""Documents as audits read and correct them."""

from collections.abc import Mapping, Sequence
from typing import Any

from bus.data.payload import Document
from bus.stores.search.index import Index
from bus.stores.search.writing.records import (
    AHEAD,
    OF_DOCUMENTS,
    OF_STREAMS,
    SHOWN,
    Held,
    Put,
    id_of,
    marks_of,
    own,
    shown,
    stored,
    version_of,
)
from bus.stores.search.writing.values import OWN


async def page(index: Index, after: str, limit: int, *, versioned: bool) -> list[Document]:
    """Reads as `Comparable.page`."""
    if not after:
        await index.refresh()
    hits = await _by("key", index, _found(versioned), after, limit)
    found = [shown(_held(hit), versioned=versioned) for hit in hits]
    return [document for document in found if document]


async def whole(index: Index, keys: Sequence[str], *, versioned: bool) -> dict[str, Document]:
    """Reads as `Comparable.whole`."""
    read = await _read(index, keys, versioned=versioned)
    return {key: document for key, (_, document) in read.items() if document}


async def sample(index: Index, count: int, *, versioned: bool) -> list[str]:
    """Reads as `Comparable.sample`."""
    await index.refresh()
    at_random = {"function_score": {"query": _found(versioned), "random_score": {}}}
    hits = await index.search(size=count, query=at_random, _source=[OWN])
    return [own(_held(hit))["key"] for hit in hits]


async def replace(
    index: Index, key: str, found: Document | None, wanted: Document | None, *, versioned: bool
) -> bool:
    """Replaces as `Comparable.replace`. Marks go: where several streams feed documents, an audit
    replaces only at the versions that the checkpoints have. So none that is ahead of them: its
    writer may go on later, and would not apply again what was taken away."""
    held, document = (await _read(index, [key], versioned=versioned))[key]
    if document != found or (document and AHEAD in document):
        return False
    if held is None and wanted is None:
        return True
    source = None if wanted is None else stored(wanted, versioned=versioned)
    if source is not None and not versioned:
        source[OWN]["marks"] = []
    is_stored = not await index.put([Put(key, source, held)])
    index.forget(key)  # without its marks, it says less than what is known of it
    return is_stored


async def reached(index: Index, after: str, limit: int, *, versioned: bool) -> dict[str, int]:
    """Reads as `Collections.reached`."""
    if not after:
        await index.refresh()
    name, query = ("key", OF_DOCUMENTS) if versioned else ("stream", OF_STREAMS)
    hits = [_held(hit) for hit in await _by(name, index, query, after, limit)]
    return {own(held)[name]: version_of(held) for held in hits}


async def _read(
    index: Index, keys: Sequence[str], *, versioned: bool
) -> dict[str, tuple[Held | None, Document | None]]:
    """Returns what is held under each key, and how audits compare it. Checkpoints are read after
    documents: one that has not reached a mark then had not when the document was read."""
    held = await index.read(keys)
    marks = {} if versioned else {key: marks_of(one) for key, one in held.items()}
    points = await index.read({id_of(stream) for streams in marks.values() for stream in streams})

    def ahead(key: str) -> dict[str, int]:
        of = marks.get(key, {})
        return {s: mark for s, mark in of.items() if mark > version_of(points.get(id_of(s)))}

    return {
        key: (held.get(key), shown(held.get(key), versioned=versioned, ahead=ahead(key)))
        for key in keys
    }


def _found(versioned: bool) -> Mapping[str, Any]:
    return OF_DOCUMENTS if versioned else SHOWN


async def _by(
    name: str, index: Index, query: Mapping[str, Any], after: str, limit: int
) -> list[Document]:
    field = f"{OWN}.{name}"
    beyond = {"search_after": [after]} if after else {}
    return await index.search(size=limit, query=query, sort=[{field: "asc"}], **beyond)


def _held(hit: Document) -> Held:
    return Held(hit["_source"], -1, -1)

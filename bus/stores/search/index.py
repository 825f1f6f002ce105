"""One index of an engine: what it holds is read and stored by id, in requests of a bounded size."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from bus.common.batches import batched
from bus.data.payload import Document
from bus.errors import BusError, NotAllowed, OutcomeUnknown, ProjectionError, StoreUnavailable
from bus.stores.search.engine import WRITE_WITHIN, Engine
from bus.stores.search.failures import CONFLICT, TooLarge, of_item, said
from bus.stores.search.writing.records import Held, Put, Records
from bus.stores.search.writing.values import OWN

MOST_IDS = 1000
MOST_DOCUMENTS = 1000
MOST_BYTES = 5_000_000
"""Of one bulk request; a document larger than that goes alone."""
MARGIN = 5.0
"""Seconds by which the engine's own limit is shorter: it gives up, and says so."""
SHOWN = "_shown"
"""Behind an index's name: the alias by which the bus's own readers search it."""


class Index(Records):
    """An index by its name. It is written through its alias alone: where the index is gone, an
    engine would make another one for a document, and guess what its fields are."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    @property
    def alias(self) -> str:
        """The name under which readers find what is not hidden."""
        return f"{self.name}{SHOWN}"

    @property
    def path(self) -> str:
        """The index in a request's path."""
        return f"/{quote(self.name)}"

    async def read(self, ids: Iterable[str], *, own_alone: bool = False) -> dict[str, Held]:
        """Reads as `Records.read`; with `own_alone` only what the bus keeps with documents.

        An index that is not there holds nothing.
        """
        found: dict[str, Held] = {}
        for some in batched(ids, MOST_IDS):
            answer = await self.engine.ask(
                "POST", f"{self.path}/_mget", {"ids": some}, _source=OWN if own_alone else "true"
            )
            for entry in answer["docs"] if answer else ():
                self._check_read(entry)
                if entry.get("found"):
                    found[entry["_id"]] = Held(
                        entry.get("_source", {}), entry["_seq_no"], entry["_primary_term"]
                    )
        return found

    def _check_read(self, entry: Mapping[str, Any]) -> None:
        error = entry.get("error")
        if error and error.get("type") != "index_not_found_exception":
            raise StoreUnavailable(
                f"{self.engine.where}: a document of {self.name} was not read: {said(error)}"
            )

    async def put(self, puts: Iterable[Put]) -> set[str]:
        conflicts = set[str]()
        for ids, body in _requests(puts):
            conflicts |= await self._put(ids, body)
        return conflicts

    async def _put(self, ids: Sequence[str], parts: Sequence[bytes]) -> set[str]:
        """Stores what one request holds, or by halves if it is too large."""
        try:
            answer = await self._bulk(b"".join(parts))
        except TooLarge as error:
            if len(ids) == 1:
                raise ProjectionError(f"a document has {len(parts[0])} bytes: {error}") from None
            half = len(ids) // 2
            first = await self._put(ids[:half], parts[:half])
            return first | await self._put(ids[half:], parts[half:])
        items = [next(iter(item.values())) for item in answer["items"]]
        self._check_stored([item for item in items if item["status"] >= 300])
        return {item["_id"] for item in items if item["status"] == CONFLICT}

    async def _bulk(self, body: bytes) -> Any:
        answer = await self.engine.ask(
            "POST",
            f"/{quote(self.alias)}/_bulk",
            body,
            within=WRITE_WITHIN,
            writing=True,
            require_alias="true",
            timeout=f"{WRITE_WITHIN - MARGIN:.0f}s",
            filter_path="errors,items.*._id,items.*.status,items.*.error",
        )
        if answer is None:
            raise StoreUnavailable(f"{self.engine.where}: the index {self.name} is gone")
        return answer

    def _check_stored(self, failed: Sequence[Mapping[str, Any]]) -> None:
        """Raises what the failed documents of a request mean, an outage before what is about a
        document: that may succeed after it."""
        where = f"{self.engine.where}, index {self.name}"
        errors: list[BusError] = [
            of_item(where, item["status"], item.get("error"))
            for item in failed
            if item["status"] != CONFLICT
        ]
        for kind in (NotAllowed, OutcomeUnknown, StoreUnavailable, BusError):
            for error in errors:
                if isinstance(error, kind):
                    raise error

    async def refresh(self) -> None:
        """Has searches find all that is stored, in every copy of the index."""
        await self.engine.ask("POST", f"{self.path}/_refresh", within=WRITE_WITHIN)

    async def search(self, **body: Any) -> list[Document]:
        """Returns what a search finds; nothing if there is no index."""
        answer = await self.engine.ask(
            "POST", f"{self.path}/_search", body, allow_partial_search_results="false"
        )
        hits: list[Document] = answer["hits"]["hits"] if answer else []
        return hits


def _requests(puts: Iterable[Put]) -> Iterator[tuple[list[str], list[bytes]]]:
    """Yields bulk requests: ids, and the lines of each."""
    ids, parts, size = list[str](), list[bytes](), 0
    for put in puts:
        part = _lines(put)
        if ids and (len(ids) == MOST_DOCUMENTS or size + len(part) > MOST_BYTES):
            yield ids, parts
            ids, parts, size = [], [], 0
        ids.append(put.id)
        parts.append(part)
        size += len(part)
    if ids:
        yield ids, parts


def _lines(put: Put) -> bytes:
    known = put.known
    about: dict[str, Any] = {"_id": put.id}
    if known is not None:
        about |= {"if_seq_no": known.number, "if_primary_term": known.term}
    if put.source is None:
        return _line({"delete": about})
    action = "create" if known is None else "index"
    return _line({action: about}) + _line(put.source)


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

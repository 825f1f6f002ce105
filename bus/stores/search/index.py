"""One index of an engine: what it holds is read and stored by id, in requests of a bounded size."""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic_core import to_json

from bus.common.batches import batched
from bus.data.payload import Document
from bus.errors import BusError, NotAllowed, OutcomeUnknown, ProjectionError, StoreUnavailable
from bus.stores.search.engine import WRITE_WITHIN, Engine
from bus.stores.search.failures import CONFLICT, TooLarge, of_item, said
from bus.stores.search.memory import Memory
from bus.stores.search.writing.records import Held, Put, Records
from bus.stores.search.writing.values import OWN

MOST_BYTES = 5_000_000
"""Of one bulk request; a document larger than that goes alone."""
AT_ONCE = 500
"""Documents of a request. Each request makes an engine sync its log once, and takes it a third as
long as what 250 documents do."""
SIDE_BY_SIDE = 2
"""Requests at a time."""
MARGIN = 5.0
"""Seconds by which the engine's own limit is shorter: it gives up, and says so."""
SHOWN = "_shown"
"""Behind an index's name: the alias by which the bus's own readers search it."""


T = TypeVar("T")


class Index(Records):
    """An index by its name. It is written through its alias alone: where the index is gone, an
    engine would make another one for a document, and guess what its fields are."""

    def __init__(self, engine: Engine, name: str, memory: Memory | None = None) -> None:
        self.engine = engine
        self.name = name
        self._memory = memory or Memory()

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
        await self._side_by_side(
            self._read(some, own_alone, found) for some in batched(ids, AT_ONCE)
        )
        return found

    async def recall(self, ids: Iterable[str]) -> dict[str, Held]:
        wanted = list(ids)
        known = self._memory.recall(wanted)
        return known | await self.read([id for id in wanted if id not in known])

    def known(self, ids: Iterable[str]) -> dict[str, Held]:
        return self._memory.recall(ids)

    async def _read(self, ids: Sequence[str], own_alone: bool, found: dict[str, Held]) -> None:
        asked = self._memory.moment()
        answer = await self.engine.ask(
            "POST", f"{self.path}/_mget", {"ids": ids}, _source=OWN if own_alone else "true"
        )
        answered = self._memory.moment()
        for entry in answer["docs"] if answer else ():
            self._check_read(entry)
            if entry.get("found"):
                number, term = entry["_seq_no"], entry["_primary_term"]
                found[entry["_id"]] = Held(
                    entry.get("_source", {}), number, term, asked=asked, answered=answered
                )

    def _check_read(self, entry: Mapping[str, Any]) -> None:
        error = entry.get("error")
        if error and error.get("type") != "index_not_found_exception":
            raise StoreUnavailable(
                f"{self.engine.where}: a document of {self.name} was not read: {said(error)}"
            )

    async def put(self, puts: Iterable[Put]) -> set[str]:
        found = await self._side_by_side(self._put(some, parts) for some, parts in _requests(puts))
        return set().union(*found)

    async def _side_by_side(self, requests: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Runs some requests at a time, and all to their end. Raises: the worst that came."""
        found: list[T] = []
        for some in batched(requests, SIDE_BY_SIDE):
            answers = await asyncio.gather(*some, return_exceptions=True)
            if errors := [error for error in answers if isinstance(error, BaseException)]:
                raise _worst(errors)
            found += [answer for answer in answers if not isinstance(answer, BaseException)]
        return found

    async def _put(self, puts: Sequence[Put], parts: Sequence[bytes]) -> set[str]:
        """Stores what one request holds, or by halves if it is too large."""
        asked = self._memory.moment()
        try:
            answer = await self._bulk(b"".join(parts))
        except TooLarge as error:
            if len(puts) == 1:
                raise ProjectionError(f"a document has {len(parts[0])} bytes: {error}") from None
            half = len(puts) // 2
            first = await self._put(puts[:half], parts[:half])
            return first | await self._put(puts[half:], parts[half:])
        items = [next(iter(item.values())) for item in answer["items"]]
        for put, part, item in zip(puts, parts, items, strict=True):
            self._remember(put, len(part), item, asked)
        self._check_stored([item for item in items if item["status"] >= 300])
        return {put.id for put, item in zip(puts, items, strict=True) if _conflicts(item)}

    def _remember(self, put: Put, size: int, item: Mapping[str, Any], asked: int) -> None:
        if put.source is None or item["status"] >= 300:
            self._memory.forget(put.id)
        else:
            number, term = item["_seq_no"], item["_primary_term"]
            answered = put.known.answered if put.known else 0
            held = Held(put.source, number, term, asked=asked, answered=answered)
            self._memory.keep(put.id, held, size)

    def forget(self, id: str) -> None:
        """Has it read the next time, and not recalled."""
        self._memory.forget(id)

    async def _bulk(self, body: bytes) -> Any:
        answer = await self.engine.ask(
            "POST",
            f"/{quote(self.alias)}/_bulk",
            body,
            within=WRITE_WITHIN,
            writing=True,
            require_alias="true",
            timeout=f"{WRITE_WITHIN - MARGIN:.0f}s",
            filter_path="items.*.status,items.*.error,items.*._seq_no,items.*._primary_term",
        )
        if answer is None:
            raise StoreUnavailable(f"{self.engine.where}: the index {self.name} is gone")
        return answer

    def _check_stored(self, failed: Sequence[Mapping[str, Any]]) -> None:
        """Raises what the failed documents of a request mean."""
        where = f"{self.engine.where}, index {self.name}"
        errors: list[BusError] = [
            of_item(where, item["status"], item.get("error"))
            for item in failed
            if not _conflicts(item)
        ]
        if errors:
            raise _worst(errors)

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


def _worst(errors: Sequence[BaseException]) -> BaseException:
    """Returns an outage before what is about a document, because that may succeed after it."""
    for kind in (asyncio.CancelledError, NotAllowed, OutcomeUnknown, StoreUnavailable):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def _conflicts(item: Mapping[str, Any]) -> bool:
    return bool(item["status"] == CONFLICT)


def _requests(puts: Iterable[Put]) -> Iterator[tuple[list[Put], list[bytes]]]:
    """Yields bulk requests, as few as will do and equally long: what is put, and the lines of
    each."""
    puts = list(puts)
    requests = math.ceil(len(puts) / AT_ONCE)
    some, parts, size = list[Put](), list[bytes](), 0
    for put in puts:
        part = _lines(put)
        if some and (len(some) * requests >= len(puts) or size + len(part) > MOST_BYTES):
            yield some, parts
            some, parts, size = [], [], 0
        some.append(put)
        parts.append(part)
        size += len(part)
    if some:
        yield some, parts


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
    try:
        return to_json(value) + b"\n"
    except ValueError as error:
        raise ProjectionError(f"a document cannot be written as JSON: {error}") from None

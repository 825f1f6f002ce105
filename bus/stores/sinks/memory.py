"""A sink in memory: rows of values by key, durable as long as the process. The contract without a
server, and what a sink of one's own may be compared with."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

from bus.common import clock
from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.stores.collections import Changes, Target, Write
from bus.stores.sink import Increment, Lend, Place, Remove, Sink, Upsert

Rows = dict[Any, dict[str, Any]]


class MemorySink(Sink):
    """Keeps rows in this object, shared by all buses of a process that are built with it.

        totals = MemorySink()
        projection = Projection("totals", of=[Account], sink=totals)

    Queries take `MemoryRows`.
    """

    kind = "memory"

    def __init__(self) -> None:
        self._place = MemoryPlace()

    def place(self, service: str) -> "MemoryPlace":
        return self._place

    def lends(self) -> Mapping[type, Lend]:
        return {MemoryRows: _lend}

    def find(self, projection: str) -> "MemoryRows | None":
        """Returns a copy of the rows that readers of a projection find; None if there are none
        yet."""
        return self._place.find(projection)


class MemoryRows(dict[Any, dict[str, Any]]):
    """The rows that readers find, by key: a copy."""


class _Collection:
    def __init__(self) -> None:
        self.identity = clock.new_id()
        self.rows: Rows = {}
        self.versions: dict[str, int] = {}


class MemoryPlace(Place):
    """Collections of rows in memory; a write is one step, because nothing is awaited within."""

    def __init__(self) -> None:
        self._collections: dict[str, _Collection] = {}
        self.shown: dict[str, str] = {}
        """The collection that stands under each name."""

    async def open(self, *, makes: bool = True) -> None:
        """Does nothing: there is nothing to connect to."""

    async def close(self) -> None:
        """Does nothing: what is kept here outlives the bus."""

    async def prepare(self, target: Target) -> Sequence[str]:
        self._of(target)
        return ()

    async def drop(self, target: Target) -> None:
        self._collections.pop(target.collection, None)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        known = self._of(target).versions
        return {stream: known[stream] for stream in streams if stream in known}

    async def write(self, target: Target, changes: Changes, before: Mapping[str, int]) -> bool:
        collection = self._of(target)
        known = collection.versions
        if any(known.get(stream, 0) != before[stream] for stream in changes.versions):
            return False
        rows = dict(collection.rows)
        for write in changes.writes:
            _apply(rows, write)
        collection.rows = rows
        known.update(changes.versions)
        return True

    async def show(self, name: str, target: Target | None) -> str | None:
        if target is None:
            self.shown.pop(name, None)
        else:
            self.shown[name] = target.collection
        return None

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        known = self._of(target).versions
        return {name: known[name] for name in sorted(n for n in known if n > after)[:limit]}

    async def identities(self, names: Sequence[str] | None = None) -> dict[str, str]:
        known = self._collections.items()
        return {name: c.identity for name, c in known if names is None or name in names}

    def find(self, name: str) -> MemoryRows | None:
        """Returns a copy of the rows that stand under a name; None if none do."""
        shown = self._collections.get(self.shown.get(name, ""))
        return MemoryRows(deepcopy(shown.rows)) if shown else None

    def rows(self, target: Target) -> MemoryRows:
        """Returns a copy of a collection's rows."""
        return MemoryRows(deepcopy(self._of(target).rows))

    async def page(self, target: Target, after: Any, limit: int) -> list[Document]:
        rows = self._of(target).rows
        keys = sorted(key for key in rows if after == "" or key > after)[:limit]
        return [_document(key, rows[key]) for key in keys]

    async def whole(self, target: Target, keys: Sequence[Any]) -> dict[Any, Document]:
        rows = self._of(target).rows
        return {key: _document(key, rows[key]) for key in keys if key in rows}

    async def sample(self, target: Target, count: int) -> list[Any]:
        return sorted(self._of(target).rows, key=lambda _: clock.source.fraction())[:count]

    async def replace(
        self, target: Target, key: Any, found: Document | None, wanted: Document | None
    ) -> bool:
        rows = self._of(target).rows
        if (found and _row(found)) != rows.get(key):
            return False
        self._of(target).rows = {k: row for k, row in rows.items() if k != key}
        if wanted is not None:
            self._of(target).rows[key] = _row(wanted)
        return True

    def _of(self, target: Target) -> _Collection:
        return self._collections.setdefault(target.collection, _Collection())


@asynccontextmanager
async def _lend(place: MemoryPlace, target: Target) -> AsyncIterator[MemoryRows]:
    yield place.rows(target)


def _apply(rows: Rows, write: Write) -> None:
    row = rows.get(write.key, {})
    match write.update:
        case Upsert(values=values):
            rows[write.key] = {**row, **deepcopy(dict(values))}
        case Increment(amounts=amounts):
            added = {name: _added(row.get(name), name, amount) for name, amount in amounts.items()}
            rows[write.key] = {**row, **added}
        case Remove():
            rows.pop(write.key, None)
        case other:
            raise ProjectionError(
                f"rows in memory take Upsert, Increment and Remove, and this is of type "
                f"{type(other).__name__}, which its own store carries out: test it there"
            )


def _added(value: Any, name: str, amount: Any) -> Any:
    try:
        return (0 if value is None else value) + amount
    except TypeError:
        raise ProjectionError(
            f"Increment({name}=...): {name} is {type(value).__name__}, and no number"
        ) from None


def _document(key: Any, row: Mapping[str, Any]) -> Document:
    return {"_id": key, **deepcopy(dict(row))}


def _row(document: Document) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "_id"}

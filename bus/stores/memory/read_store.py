"""The read store in memory, durable as long as the process."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from datetime import datetime, timedelta

from bus.common import clock
from bus.data.payload import Document
from bus.stores.collections import ChangeFeed, StoredDocuments, Target, Writer
from bus.stores.control import Note, Parked
from bus.stores.memory.changes import MemoryChangeFeed
from bus.stores.memory.deadletters import MemoryLetters
from bus.stores.memory.documents import MemoryDocuments, MemoryWriter, Tables


class MemoryReadStore(MemoryLetters):
    """Read collections; transactions with snapshot isolation, first committer wins."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = Tables()
        """What the effects in memory share."""
        self.handled: dict[str, datetime] = {}
        """Their marks, the oldest first."""
        self._notes: dict[str, Note] = {}
        self._parked: dict[tuple[str, str], Parked] = {}
        self._swept: dict[str, datetime] = {}
        self._leases: dict[str, tuple[str, datetime, datetime]] = {}
        self._seal: Document = {}

    async def open(self, *, makes: bool = True) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing in flight."""

    def now(self) -> datetime:
        """As `ReadStore.now`; its process's clock is the store's own."""
        return clock.now()

    async def prepare(self, target: Target) -> Sequence[str]:
        """As `ReadStore.prepare`; there is nothing here that was made otherwise before."""
        self.tables.prepare(target)
        return ()

    def documents(self, target: Target) -> StoredDocuments:
        """As `ReadStore.documents`."""
        return MemoryDocuments(self.tables, target)

    def changes(self, target: Target) -> ChangeFeed:
        """As `ReadStore.changes`."""
        return MemoryChangeFeed(self.tables.listeners, target.collection)

    def writer(self, target: Target, queue: str) -> Writer:
        """As `ReadStore.writer`; writers of one store share nothing that one could leave locked."""
        return MemoryWriter(self.tables, target)

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        """As `ReadStore.insert`."""
        self.tables.insert(target, documents)

    async def page(self, target: Target, after: str, limit: int) -> list[Document]:
        """As `ReadStore.page`."""
        table = self.tables.of(target)
        keys = sorted(key for key in table if isinstance(key, str) and key > after)
        return deepcopy([table[key] for key in keys[:limit]])

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        """As `ReadStore.whole`."""
        table = self.tables.of(target)
        return deepcopy({key: table[key] for key in keys if key in table})

    async def sample(self, target: Target, count: int) -> list[str]:
        """As `ReadStore.sample`."""
        return sorted(self.tables.of(target), key=lambda _: clock.source.fraction())[:count]

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        """As `ReadStore.replace`."""
        with self.tables.lock:
            if self.tables.of(target).get(key) != found:
                return False
            self.tables.put(target, key, wanted)
        return True

    async def show(self, name: str, target: Target | None) -> str | None:
        """As `ReadStore.show`; nobody reads here but by the bus."""
        return None

    async def drop(self, target: Target) -> None:
        """As `ReadStore.drop`."""
        self.tables.drop(target)
        self._swept.pop(target.collection, None)
        for owner, stream in list(self._parked):
            if owner == target.collection:
                del self._parked[owner, stream]
        for key in [key for key in list(self._notes) if key.startswith(f"{target.collection}/")]:
            del self._notes[key]

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """As `ReadStore.versions`."""
        return self.tables.versions(target, streams)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        """As `ReadStore.reached`."""
        keys = sorted(key for key in self.tables.keys(target) if key > after)[:limit]
        return self.tables.versions_of(target, keys)

    async def park(self, target: Target, parked: Parked) -> None:
        """As `ReadStore.park`."""
        self._parked[target.collection, parked.stream] = parked

    async def unpark(self, target: Target, stream: str) -> None:
        """As `ReadStore.unpark`."""
        self._parked.pop((target.collection, stream), None)

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        """As `ReadStore.parked`."""
        return [
            parked
            for (owner, stream), parked in list(self._parked.items())
            if owner == target.collection and (streams is None or stream in streams)
        ]

    async def swept(self, target: Target) -> datetime | None:
        """As `ReadStore.swept`."""
        return self._swept.get(target.collection)

    async def mark_swept(self, target: Target, until: datetime) -> None:
        """As `ReadStore.mark_swept`."""
        self._swept[target.collection] = until

    async def note(self, key: str) -> Note:
        """As `ReadStore.note`."""
        return deepcopy(self._notes.get(key, Note(key, {})))

    async def write_note(self, note: Note) -> bool:
        """As `ReadStore.write_note`."""
        with self.tables.lock:
            if self._notes.get(note.key, note).revision != note.revision:
                return False
            self._notes[note.key] = deepcopy(note._replace(revision=note.revision + 1))
        return True

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """As `ReadStore.identities`."""
        all = dict(self.tables.identities)
        return {name: all[name] for name in all if names is None or name in names}

    async def seal(self) -> Document:
        """As `ReadStore.seal`."""
        return deepcopy(self._seal)

    async def set_seal(self, value: Document) -> None:
        """As `ReadStore.set_seal`; checkpoints here cannot be lost without it."""
        with self.tables.lock:
            if value["turn"] >= self._seal.get("turn", 0):
                self._seal = deepcopy(value)

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """As `ReadStore.lease`."""
        now = self.now()
        with self.tables.lock:
            holder, since, until = self._leases.get(name, (owner, now, now))
            if holder != owner and since <= now < until:  # earlier, the clock was set back
                return False
            self._leases[name] = (owner, now, now + timedelta(seconds=seconds))
        return True

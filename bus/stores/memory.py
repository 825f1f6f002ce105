"""The event log and the read store in memory: the same contracts, durable as long as the process.

For tests, demos, and services that may forget. Nothing here is shared between processes; the event
loops of one process may share it, also those of several threads.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from operator import attrgetter

from bus import ambient
from bus.stores.base import (
    ChangeFeed,
    Commit,
    Document,
    Documents,
    Note,
    Parked,
    Recorded,
    Snapshot,
    Tally,
    Target,
    Writer,
)
from bus.stores.memory_changes import MemoryChangeFeed
from bus.stores.memory_documents import MemoryDocuments, MemoryWriter, Tables
from bus.stores.memory_letters import MemoryLetters
from bus.stores.memory_log import Entry, MemoryLog
from bus.stores.records import commit_document, encoded, moved_on
from bus.tasks import Home


class MemoryEventLog(MemoryLog):
    """All commits of a service."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: set[tuple[str, int]] = set()
        self._pending: dict[str, Entry] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._followers: dict[asyncio.Queue[str], Home] = {}

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        """As `EventLog.append`."""
        data = [encoded(commit_document(commit)) for commit in commits]
        with self._lock:
            return await self._append(commits, data)

    async def _append(self, commits: Sequence[Commit], data: Sequence[bytes]) -> Sequence[Commit]:
        """Nothing in here lets another task run."""
        if commits and commits[0].id in self._commits:
            return await self.find(commits[0].id)
        places = {(commit.stream, commit.first) for commit in commits}
        ids = {commit.id for commit in commits}
        if (
            len(places) + len(ids) < 2 * len(commits)
            or places & self._taken
            or ids & set(self._commits)
        ):
            raise moved_on(commits)
        for commit, stored in zip(commits, data, strict=True):
            self._taken.add((commit.stream, commit.first))
            self._pending[commit.id] = self._store(commit, stored)
        return commits

    def _store(self, commit: Commit, data: bytes) -> Entry:
        entry = super()._store(commit, data)
        for follower, home in list(self._followers.items()):
            home.call(follower.put_nowait, commit.id)
        return entry

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """As `EventLog.heads`."""
        ends = {one: self._commit(self._streams[one][-1].id).last for one in streams
                if one in self._streams}  # fmt: skip
        return {stream: last for stream, last in ends.items() if last}

    async def newest(self) -> str:
        """As `EventLog.newest`."""
        with self._lock:
            return next(reversed(self._commits), "")

    async def held(self, ids: Sequence[str]) -> set[str]:
        """As `EventLog.held`."""
        return set(ids) & self._commits.keys()

    async def examine(self, within: float = 30) -> str | None:
        """As `EventLog.examine`: what it relies on is a part of it."""
        return None

    async def forget_snapshots(self) -> None:
        """As `EventLog.forget_snapshots`."""
        self._snapshots.clear()

    async def find(self, command_id: str) -> list[Commit]:
        """As `EventLog.find`."""
        found: list[Commit] = []
        commit_id = command_id
        while commit_id in self._commits:
            found.append(self._commit(commit_id))
            commit_id = f"{command_id}/{len(found) + 1}"
        return found

    async def commits(self, ids: Sequence[str]) -> list[Commit]:
        """As `EventLog.commits`."""
        return [self._commit(id) for id in ids if id in self._commits]

    async def events(
        self, stream: str, after: int = 0
    ) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """As `EventLog.events`."""
        for commit in await self.read(stream, after):
            yield [one for one in enumerate(commit.events, commit.first) if one[0] > after]

    async def categories(self) -> list[str]:
        """As `EventLog.categories`."""
        return sorted(self._categories)

    async def sending(self, since: datetime) -> AsyncIterator[Commit]:
        """As `EventLog.sending`."""
        for commit in self._all():
            if commit.outgoing and commit.time >= since:
                yield commit

    async def tally(self, without: Collection[str] = ()) -> list[Tally]:
        """As `EventLog.tally`."""
        found: dict[tuple[str, str], Tally] = {}
        for commit in self._all():
            for version, event in enumerate(commit.events, commit.first):
                if event.name not in without:
                    key = commit.category, event.name
                    own = Tally(event.name, key[0], 0, commit.time, commit.time, commit.stream,
                                version)  # fmt: skip
                    before = found.get(key, own)
                    found[key] = before._replace(count=before.count + 1, last=commit.time)
        return [found[key] for key in sorted(found)]

    async def conversation(
        self, correlation_id: str, since: datetime | None = None
    ) -> list[Commit]:
        """As `EventLog.conversation`."""
        return [
            commit
            for commit in self._all()
            if commit.correlation_id == correlation_id and (since is None or commit.time >= since)
        ]

    async def follow(
        self, last: int, categories: Sequence[str] = ()
    ) -> AsyncGenerator[Commit, None]:
        """As `EventLog.follow`."""

        def wanted(commit: Commit) -> bool:
            return bool(commit.events) and (not categories or commit.category in categories)

        stored = asyncio.Queue[str]()
        self._followers[stored] = Home()
        try:
            shown = list(filter(wanted, self._all()))
            for commit in shown[-last:] if last else ():
                yield commit
            while True:
                commit = self._commit(await stored.get())
                if wanted(commit):
                    yield commit
        finally:
            del self._followers[stored]

    def _all(self) -> list[Commit]:
        """Every commit, by time, then by version."""
        return sorted(map(self._commit, list(self._commits)), key=attrgetter("time", "first"))

    async def pending(
        self, before: datetime, limit: int, since: datetime | None = None
    ) -> list[Commit]:
        """As `EventLog.pending`."""
        waiting = [entry for entry in list(self._pending.values()) if entry.time < before]
        if since is not None:
            waiting = [entry for entry in waiting if entry.time >= since]
        waiting.sort(key=attrgetter("time", "first"))
        return [self._commit(entry.id) for entry in waiting[:limit]]

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        """As `EventLog.confirmed`."""
        for commit_id in commit_ids:
            self._pending.pop(commit_id, None)

    async def snapshot(self, stream: str) -> Snapshot | None:
        """As `EventLog.snapshot`."""
        return deepcopy(self._snapshots.get(stream))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """As `EventLog.save_snapshot`."""
        encoded(snapshot._asdict())
        with self._lock:
            stored = self._snapshots.get(snapshot.stream)
            if stored is None or stored.version < snapshot.version:
                self._snapshots[snapshot.stream] = deepcopy(snapshot)


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
        return ambient.now()

    async def prepare(self, target: Target) -> Sequence[str]:
        """As `ReadStore.prepare`; there is nothing here that was made otherwise before."""
        self.tables.prepare(target)
        return ()

    def documents(self, target: Target) -> Documents:
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
        return sorted(self.tables.of(target), key=lambda _: ambient.source.fraction())[:count]

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

"""The logs in memory: commits by stream and by category, stored as BSON, so that no caller holds a
part of what is stored."""

from bisect import bisect_right, insort
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from itertools import islice
from operator import attrgetter
from threading import RLock
from typing import NamedTuple

from bus.common import clock
from bus.stores.event_log import Commit, FollowedLog, StoredLog
from bus.stores.records import commit_from, decoded, encoded, followed_document


class Entry(NamedTuple):
    """A commit's place in its stream and in time, and its id."""

    first: int
    time: datetime
    id: str


class MemoryLog(StoredLog):
    """Commits, as the read deck reads them."""

    def __init__(self) -> None:
        self._commits: dict[str, bytes] = {}
        self._streams: dict[str, list[Entry]] = {}
        self._categories: dict[str, list[Entry]] = {}
        self._lock = RLock()
        """Held while storing: the loops of several threads may share this."""

    async def open(self, *, makes: bool = True) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Does nothing."""

    def now(self) -> datetime:
        """Returns the time by its process's clock."""
        return clock.now()

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        entries = self._streams.get(stream, [])
        start = bisect_right(entries, after, key=attrgetter("first"))
        commits = [
            self._commit(entry.id)
            for entry in entries[max(start - 1, 0) :][: limit + 1 if limit else None]
        ]
        found = [commit for commit in commits if commit.last > after]
        return found[:limit] if limit else found

    async def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        for entry in sorted(self._of(categories), key=attrgetter("time", "first")):
            if since is None or entry.time >= since:
                commit = self._commit(entry.id)
                if commit.events:
                    yield commit

    async def arrived(
        self,
        categories: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Commit]:
        for entry in sorted(self._of(categories), key=self._arrival):
            came = self._arrival(entry)
            if (since is None or came >= since) and (until is None or came <= until):
                commit = self._commit(entry.id)
                if commit.events:
                    yield commit

    def _of(self, categories: Sequence[str]) -> list[Entry]:
        return [entry for name in set(categories) for entry in self._categories.get(name, ())]

    def _arrival(self, entry: Entry) -> datetime:
        """Returns when a commit was stored here."""
        return entry.time

    async def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        for stream in self._streams_of(category):
            if stream > after and (not until or stream <= until):
                yield [commit for commit in await self.read(stream) if commit.events]

    async def split(self, category: str, parts: int) -> list[str]:
        streams = [name for name in self._streams_of(category) for _ in self._streams[name]]
        places = [len(streams) * part // parts for part in range(1, parts)] if streams else []
        return sorted({streams[place] for place in places})

    def _streams_of(self, category: str) -> list[str]:
        return sorted(name for name in list(self._streams) if name.startswith(f"{category}-"))

    @property
    def size(self) -> int:
        """How many commits are stored."""
        return len(self._commits)

    def stored(self, after: int, limit: int) -> list[Commit]:
        """Returns commits in the order in which they were stored, beyond the first `after`."""
        return [self._commit(id) for id in list(islice(self._commits, after, after + limit))]

    async def count(self, categories: Sequence[str]) -> int:
        return sum(len(self._categories.get(name, ())) for name in set(categories))

    async def settled(self) -> datetime:
        """Returns the time now: what is stored is visible at once."""
        return self.now()

    def _commit(self, commit_id: str) -> Commit:
        return commit_from(decoded(self._commits[commit_id]))

    def _store(self, commit: Commit, data: bytes) -> Entry:
        entry = Entry(commit.first, commit.time, commit.id)
        self._commits[commit.id] = data
        insort(self._streams.setdefault(commit.stream, []), entry)
        self._categories.setdefault(commit.category, []).append(entry)
        return entry


class MemoryFollowedLog(MemoryLog, FollowedLog):
    """What has arrived of other services' streams."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: dict[str, datetime] = {}

    async def keep(self, commits: Sequence[Commit]) -> None:
        now = self.now()
        for commit in commits:
            data = encoded(followed_document(commit, now))
            with self._lock:
                if commit.id not in self._commits:
                    self._arrived[commit.id] = now
                    self._store(commit, data)

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        return {name: self._streams[name][-1].first for name in streams if name in self._streams}

    def _arrival(self, entry: Entry) -> datetime:
        return self._arrived[entry.id]

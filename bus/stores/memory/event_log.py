"""The event log in memory, durable as long as the process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from operator import attrgetter
from typing import Any

from bus.common.tasks import Home
from bus.errors import StoreUnavailable
from bus.stores.documents.matching import matcher
from bus.stores.event_log import (
    Backlog,
    Commit,
    EventCount,
    EventLog,
    Recorded,
    Snapshot,
    StoredCommit,
)
from bus.stores.memory.log import Entry, MemoryLog
from bus.stores.records import (
    commit_document,
    decoded,
    differ,
    encoded,
    moved_on,
    not_older,
    state_document,
    state_from,
    states_filter,
    taken_by_another,
)


class MemoryEventLog(MemoryLog, EventLog):
    """All commits of a service."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: set[tuple[str, int]] = set()
        self._pending: dict[str, Entry] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._states: dict[str, bytes] = {}
        self._followers: dict[asyncio.Queue[str], Home] = {}
        self._fence = ""

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        data: list[bytes] = []
        states: list[Snapshot] = []
        for commit in commits:
            data.append(encoded(commit_document(commit)))
            if commit.state:
                states.append(commit.state)
        kept = {state.stream: encoded(state_document(state)) for state in states} if states else {}
        with self._lock:
            return await self._append(commits, data, states, kept)

    async def _append(
        self,
        commits: Sequence[Commit],
        data: Sequence[bytes],
        states: Sequence[Snapshot],
        kept: Mapping[str, bytes],
    ) -> Sequence[Commit]:
        """Stores commits. Nothing in here lets another task run: it would see some of them."""
        if commits and commits[0].id in self._commits:
            return await self.find(commits[0].id)
        if self._fence:
            raise StoreUnavailable(self._fence)
        places = {(commit.stream, commit.first) for commit in commits}
        ids = {commit.id for commit in commits}
        if (
            len(places) + len(ids) < 2 * len(commits)
            or places & self._taken
            or ids & set(self._commits)
        ):
            raise moved_on(commits)
        if states:
            if any(state.version <= self._reached(state.stream) for state in states):
                raise not_older(commits)
            self._states |= kept
        for commit, stored in zip(commits, data, strict=True):
            self._take(StoredCommit(commit, True), stored)
        return commits

    def _take(self, copy: StoredCommit, data: bytes) -> None:
        commit, pending = copy
        self._taken.add((commit.stream, commit.first))
        entry = self._store(commit, data)
        if pending:
            self._pending[commit.id] = entry

    def _store(self, commit: Commit, data: bytes) -> Entry:
        entry = super()._store(commit, data)
        for follower, home in list(self._followers.items()):
            home.call(follower.put_nowait, commit.id)
        return entry

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        ends = {name: self._commit(self._streams[name][-1].id).last for name in streams
                if name in self._streams}  # fmt: skip
        return {stream: last for stream, last in ends.items() if last}

    async def newest(self) -> str:
        with self._lock:
            return next(reversed(self._commits), "")

    async def held(self, ids: Sequence[str]) -> set[str]:
        return set(ids) & self._commits.keys()

    async def examine(self, within: float = 30) -> str | None:
        """Finds nothing wrong but a fence: what it relies on is part of it."""
        return self._fence or None

    async def forget_snapshots(self) -> None:
        self._snapshots.clear()

    async def find(self, command_id: str) -> list[Commit]:
        found: list[Commit] = []
        commit_id = command_id
        while commit_id in self._commits:
            found.append(self._commit(commit_id))
            commit_id = f"{command_id}/{len(found) + 1}"
        return found

    async def commits(self, ids: Sequence[str]) -> list[Commit]:
        return [self._commit(id) for id in ids if id in self._commits]

    async def events(
        self, stream: str, after: int = 0
    ) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        for commit in await self.read(stream, after):
            numbered = enumerate(commit.events, commit.first)
            yield [(version, event) for version, event in numbered if version > after]

    async def categories(self) -> list[str]:
        return sorted(self._categories)

    async def sending(self, since: datetime) -> AsyncIterator[Commit]:
        for commit in self._all():
            if commit.outgoing and commit.time >= since:
                yield commit

    async def tally(self, without: Collection[str] = ()) -> list[EventCount]:
        found: dict[tuple[str, str], EventCount] = {}
        for commit in self._all():
            for version, event in enumerate(commit.events, commit.first):
                if event.name not in without:
                    key = commit.category, event.name
                    own = EventCount(
                        name=event.name,
                        category=key[0],
                        count=0,
                        first=commit.time,
                        last=commit.time,
                        stream=commit.stream,
                        version=version,
                    )
                    before = found.get(key, own)
                    found[key] = before._replace(count=before.count + 1, last=commit.time)
        return [found[key] for key in sorted(found)]

    async def conversation(
        self, correlation_id: str, since: datetime | None = None
    ) -> list[Commit]:
        return [
            commit
            for commit in self._all()
            if commit.correlation_id == correlation_id and (since is None or commit.time >= since)
        ]

    async def follow(
        self, last: int, categories: Sequence[str] = ()
    ) -> AsyncGenerator[Commit, None]:
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
        """Returns every commit, by time, then by version."""
        return sorted(map(self._commit, list(self._commits)), key=attrgetter("time", "first"))

    async def every(self, since: datetime | None = None) -> AsyncGenerator[StoredCommit, None]:
        for commit in sorted(self._all(), key=attrgetter("time", "first", "stream")):
            if since is None or commit.time >= since:
                yield StoredCommit(commit, commit.id in self._pending)

    async def import_commits(self, copies: Sequence[StoredCommit]) -> None:
        data = [encoded(commit_document(copy.commit)) for copy in copies]
        with self._lock:
            for copy, stored in zip(copies, data, strict=True):
                self._import(copy, stored)

    def _import(self, copy: StoredCommit, data: bytes) -> None:
        commit, pending = copy
        here = self._at(commit)
        if here is None:
            self._take(copy, data)
            return
        if differ(here, commit):
            raise taken_by_another(here, commit)
        if pending:
            entry = Entry(commit.first, commit.time, commit.id)
            self._pending.setdefault(commit.id, entry)
        else:
            self._pending.pop(commit.id, None)

    def _at(self, commit: Commit) -> Commit | None:
        """Returns what is stored under a commit's id, or at its place; None if both are free."""
        if commit.id in self._commits:
            return self._commit(commit.id)
        if (commit.stream, commit.first) not in self._taken:
            return None
        entries = self._streams[commit.stream]
        return next(self._commit(entry.id) for entry in entries if entry.first == commit.first)

    async def fence(self, reason: str) -> None:
        with self._lock:
            self._fence = reason

    async def unfence(self) -> None:
        with self._lock:
            self._fence = ""

    async def fenced(self) -> str:
        return self._fence

    async def pending(
        self, before: datetime, limit: int, since: datetime | None = None
    ) -> list[Commit]:
        waiting = [entry for entry in list(self._pending.values()) if entry.time < before]
        if since is not None:
            waiting = [entry for entry in waiting if entry.time >= since]
        waiting.sort(key=attrgetter("time", "first"))
        return [self._commit(entry.id) for entry in waiting[:limit]]

    async def backlog(self, most: int = 10_000) -> Backlog:
        times = [entry.time for entry in list(self._pending.values())]
        return Backlog(min(len(times), most), min(times, default=None))

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        for commit_id in commit_ids:
            self._pending.pop(commit_id, None)

    async def snapshot(self, stream: str) -> Snapshot | None:
        return deepcopy(self._snapshots.get(stream))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        encoded(snapshot._asdict())
        with self._lock:
            stored = self._snapshots.get(snapshot.stream)
            if stored is None or stored.version < snapshot.version:
                self._snapshots[snapshot.stream] = deepcopy(snapshot)

    def _reached(self, stream: str) -> int:
        """Returns the version of a stream's state, 0 if it has none."""
        version: int = decoded(self._states[stream])["version"] if stream in self._states else 0
        return version

    async def state(self, stream: str) -> Snapshot | None:
        stored = self._states.get(stream)
        return None if stored is None else state_from(decoded(stored))

    async def states(
        self,
        category: str,
        fields: Mapping[str, Any],
        limit: int,
        *,
        shape: str = "",
        after: str = "",
    ) -> list[Snapshot]:
        is_wanted = matcher(states_filter(category, fields, shape=shape, after=after))
        own = sorted(stream for stream in self._states if stream.startswith(f"{category}-"))
        found = filter(is_wanted, [decoded(self._states[stream]) for stream in own])
        return list(map(state_from, found))[:limit]

    async def save_state(self, snapshot: Snapshot) -> None:
        data = encoded(state_document(snapshot))
        with self._lock:
            if self._reached(snapshot.stream) <= snapshot.version:
                self._states[snapshot.stream] = data

    async def prepare_states(self, category: str, indexes: Sequence[str]) -> None:
        """Does nothing: it goes through all states."""

    async def forget_states(self, category: str = "") -> None:
        with self._lock:
            for stream in list(self._states):
                if not category or decoded(self._states[stream])["category"] == category:
                    del self._states[stream]

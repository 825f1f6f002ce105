"""The event log: what is asked of a store for the commits of a service, or of one that it follows.

Knows no database. Every implementation passes the contracts in `bus.testing.contracts`.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from bus.data.payload import Document


class Recorded(NamedTuple):
    """An event as it is stored: its wire name, schema version, and data as JSON types.

    `id` is the event's id where it does not derive from that of its commit: another service's.
    """

    name: str
    schema: int
    data: Document
    id: str = ""


class Outgoing(NamedTuple):
    """A command that a unit of work sends: stored with its commit, published like its events."""

    id: str
    name: str
    schema: int
    data: Document


class Commit(NamedTuple):
    """What one command appended to one stream: one document, written at once or not at all.

    `id` is the command's id (`id/2` and so on for further streams of the same command) and thereby
    the idempotency key. `first` is the version of its first event; `(stream, first)` is unique.
    `message` is the name of the message that caused it, `result` what its handler returned, as
    JSON types; `digest` tells that message from others of its kind, where its id may come again.
    """

    id: str
    stream: str
    category: str
    first: int
    events: tuple[Recorded, ...]
    time: datetime
    correlation_id: str
    causation_id: str | None = None
    headers: Mapping[str, str] = {}
    outgoing: tuple[Outgoing, ...] = ()
    result: Any = None
    message: str = ""
    digest: str = ""

    @property
    def last(self) -> int:
        """The version of its last event; `first - 1` where it has none."""
        return self.first + len(self.events) - 1

    def event_id(self, place: int) -> str:
        """The id of one of its events, by its place in `events`."""
        return self.events[place].id or f"{self.id}:{place + 1}"


class Snapshot(NamedTuple):
    """An aggregate's state at `version`. `shape` tells states of differing classes apart."""

    stream: str
    version: int
    shape: str
    state: Document


class EventCount(NamedTuple):
    """How many events of a name a category holds, from their first time to the last. `stream` and
    `version` tell where one of them stands."""

    name: str
    category: str
    count: int  # type: ignore[assignment]
    first: datetime
    last: datetime
    stream: str
    version: int


class Streams(Protocol):
    """What can be read stream by stream."""

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        """The commits that hold the stream's events beyond version `after`, in order.

        The first may begin at or before `after` (a commit is not cut). `limit` counts commits;
        0 means all.
        """
        ...


class ReadableLog(Streams, Protocol):
    """Commits by stream and by category, as the read deck reads them."""

    def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        """All commits of these categories with events, from `since` on, by time, then by version.

        Where the clocks of writers disagree, commits of one stream can come out of order; and a
        commit stored during the scan, with an earlier time, is missed. Versions tell.
        """
        ...

    def arrived(
        self,
        categories: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Commit]:
        """All commits of these categories with events that came into the log from `since` on, up to
        and with `until`, by the clock of whoever stored them."""
        ...

    def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        """All commits of a category with events, stream by stream and each in order, page by page,
        each of which is to be gone through once.

        Of the streams beyond `after` (all by default), up to and with `until` (to the last).
        """
        ...

    async def split(self, category: str, parts: int) -> list[str]:
        """Streams that divide a category into about so many equal parts: each is the last of its
        part, and the last part has none. Fewer where there are few commits."""
        ...

    async def count(self, categories: Sequence[str]) -> int:
        """How many commits there are of these categories, about."""
        ...


class StoredLog(ReadableLog, Protocol):
    """A log in a store of its own, which is opened and closed."""

    def now(self) -> datetime:
        """The time by the log's own clock, in UTC, in whole milliseconds: that of its commits, so
        that a process whose clock is wrong writes and looks for them at the right time."""
        ...

    async def open(self, *, makes: bool = True) -> None:
        """Connects and makes the indexes; without `makes`, for somebody who only looks, makes
        nothing. Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks, once what they write is written; the client remains the caller's."""
        ...


class EventLog(StoredLog, Protocol):
    """All commits of a service: the source of truth, and the outbox. Durable on return."""

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        """Stores all of them or none, and returns what now stands in the log under their ids.

        That is `commits` itself, or, where the first one's id was there already, the commits stored
        then (a repeat: nothing is written). New commits are pending until `confirmed`.
        Raises: ConcurrencyError (a `(stream, first)` is taken), InvalidMessage (cannot be kept:
        too large, integers beyond 64 bits), OutcomeUnknown, StoreUnavailable.
        """
        ...

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """The highest version of each stream; those that hold no events are absent."""
        ...

    async def newest(self) -> str:
        """The id of a commit that was stored lately, durably; empty where there is none."""
        ...

    async def held(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids of commits the log holds."""
        ...

    async def examine(self, within: float = 30) -> str | None:
        """Looks whether all that it relies on is there, and its clock again; says what is not.

        For as long as it would keep no promise without, `append` is refused (StoreUnavailable);
        it makes again what it can. Raises: StoreUnavailable.
        """
        ...

    async def forget_snapshots(self) -> None:
        """Drops the snapshots of all streams: they may be of a log that was another."""
        ...

    async def find(self, command_id: str) -> list[Commit]:
        """The commits of one command: `id`, `id/2`, ...; empty where there are none."""
        ...

    async def commits(self, ids: Sequence[str]) -> list[Commit]:
        """The commits with these ids, in any order; those that are not there are absent."""
        ...

    def events(self, stream: str, after: int = 0) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """The stream's events beyond version `after`, each with its version: no more than it takes
        to build an aggregate. They come page by page, so that a long stream is never held whole.
        """
        ...

    async def pending(
        self, before: datetime, limit: int, since: datetime | None = None
    ) -> list[Commit]:
        """Commits not confirmed, from before `before` and from `since` on, oldest first."""
        ...

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        """Clears the pending mark. Losing this write only costs a duplicate later."""
        ...

    async def snapshot(self, stream: str) -> Snapshot | None:
        """The latest snapshot of a stream: a cache, which may be absent at any time."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces an older snapshot of the stream; an equal or newer one stays."""
        ...

    async def categories(self) -> list[str]:
        """All categories that the log holds, in their order."""
        ...

    def sending(self, since: datetime) -> AsyncIterator[Commit]:
        """All commits that send commands, from `since` on, by time, then by version."""
        ...

    async def tally(self, without: Collection[str] = ()) -> list[EventCount]:
        """The names of events in the log, but for these: by category, then by name.

        For people: it reads the whole log.
        """
        ...

    async def conversation(
        self, correlation_id: str, since: datetime | None = None
    ) -> list[Commit]:
        """All commits with a correlation id, from `since` on, by time, then by version.

        For people: it reads all that was stored since then, or the whole log.
        """
        ...

    def follow(self, last: int, categories: Sequence[str] = ()) -> AsyncGenerator[Commit, None]:
        """The `last` commits with events, by time, and then each one that is stored from now on, in
        the order in which they are; without an end. Of these categories, of all by default.

        Raises: StoreUnavailable (begin again), ConfigurationError (a server without a replica set).
        """
        ...


class FollowedLog(StoredLog, Protocol):
    """A copy of other services' streams, as far as they have arrived, in whatever order.

    Each commit holds one event and keeps that event's own time, by which `scan` goes; `arrived`
    goes by when it was kept. Where an event has not arrived, a stream's versions have a gap.
    """

    async def keep(self, commits: Sequence[Commit]) -> None:
        """Stores what is not there yet, durably; the first to come for a version of a stream stays.

        Raises: InvalidMessage (one cannot be kept; others may have been), OutcomeUnknown and
        StoreUnavailable (repeating is safe).
        """
        ...

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """The highest version that is here of each stream; streams never seen are absent."""
        ...

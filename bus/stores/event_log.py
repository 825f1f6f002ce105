"""The event log: what the bus asks of a store for the commits of a service, or of one it follows.

Knows no database. Every implementation passes the contracts in `bus.testing.contracts`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from bus.data.payload import Document


class Recorded(NamedTuple):
    """An event as it is stored: its wire name, schema version, and data as JSON types.

    `id` is the event's id if it does not derive from its commit's: it is another service's event.
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


class Snapshot(NamedTuple):
    """An aggregate's state at `version`. `shape` distinguishes the states of different classes;
    of an aggregate that is stored by its state it is the schema, as text."""

    stream: str
    version: int
    shape: str
    state: Document


class Commit(NamedTuple):
    """What one command appended to one stream: one document, written at once or not at all.

    `id` is the command's id (`id/2` and so on for further streams of the same command), and so the
    idempotency key. `first` is the version of its first event; `(stream, first)` is unique.
    `message` is the name of the message that caused it, `result` what its handler returned, as
    JSON types; `digest` distinguishes that message from others of its kind, if its id may be
    repeated. `state` is stored beside it, for an aggregate that is stored by its state: it is no
    part of the commit, nor compared.
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
    state: Snapshot | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commit) and self[:-1] == other[:-1]

    def __ne__(self, other: object) -> bool:
        return not self == other

    @property
    def last(self) -> int:
        """The version of its last event; `first - 1` if it has none."""
        return self.first + len(self.events) - 1

    def event_id(self, place: int) -> str:
        """Returns the id of one of its events, by its place in `events`."""
        return self.events[place].id or f"{self.id}:{place + 1}"


class StoredCommit(NamedTuple):
    """A commit as one log holds it, for another one. `pending`: not confirmed by the broker yet."""

    commit: Commit
    pending: bool


class EventCount(NamedTuple):
    """How many events of a name a category holds, and the first and last of their times. `stream`
    and `version` lead to one of them."""

    name: str
    category: str
    count: int  # type: ignore[assignment]
    first: datetime
    last: datetime
    stream: str
    version: int


class Backlog(NamedTuple):
    """The commits that are not confirmed: how many, counted up to some limit, and since when."""

    commits: int
    oldest: datetime | None


class Streams(Protocol):
    """What can be read stream by stream."""

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        """Returns the commits that hold the stream's events after version `after`, in order.

        The first may begin at or before `after` (a commit is not cut). `limit` counts commits;
        0 means all.
        """
        ...

    async def read_durable(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        """Returns what `read` does, once nothing can take it back. Raises: StoreUnavailable."""
        return await self.read(stream, after, limit)


class ReadableLog(Streams, Protocol):
    """Commits by stream and by category, as the read deck reads them."""

    def scan(
        self, categories: Sequence[str], since: datetime | None = None
    ) -> AsyncIterator[Commit]:
        """Yields all commits of these categories with events, from `since` on, by time, then by
        version.

        If the clocks of writers disagree, commits of one stream can come out of order; and a commit
        stored during the scan, with an earlier time, is missed. Versions show both.
        """
        ...

    def arrived(
        self,
        categories: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Commit]:
        """Yields all commits of these categories with events that were stored from `since` to
        `until`, both included, by the clock of the process that stored them."""
        ...

    def scan_streams(
        self, category: str, after: str = "", until: str = ""
    ) -> AsyncIterator[Iterable[Commit]]:
        """Yields all commits of a category with events, stream by stream and each in order, in
        pages that can be iterated once.

        Of the streams after `after` (default: all), up to and including `until` (default: to the
        last).
        """
        ...

    async def split(self, category: str, parts: int) -> list[str]:
        """Returns streams that divide a category into about so many equal parts: each is the last
        of its part, and the last part has none. Fewer if there are few commits."""
        ...

    async def count(self, categories: Sequence[str]) -> int:
        """Returns about how many commits these categories have."""
        ...

    async def settled(self) -> datetime:
        """Returns a time up to which nothing more becomes visible: now, or, while a commit is being
        stored that began earlier, its time.

        What takes a moment to be stored may still be missed: callers leave room for that. In a SQL
        database, a transaction may be held open for hours. Raises: StoreUnavailable.
        """
        ...


class StoredLog(ReadableLog, Protocol):
    """A log in a store, which is opened and closed."""

    def now(self) -> datetime:
        """Returns the time by the log's own clock, in UTC, in whole milliseconds.

        Commits carry it, so that a process with a wrong clock still writes and finds them at the
        right time.
        """
        ...

    async def open(self, *, makes: bool = True) -> None:
        """Connects and creates the indexes; without `makes`, to read only, it creates nothing.

        Raises: StoreUnavailable, ConfigurationError.
        """
        ...

    async def close(self) -> None:
        """Ends its own tasks once their writes are done; the client remains the caller's."""
        ...


class EventLog(StoredLog, Protocol):
    """All commits of a service: the source of truth, and the outbox. Durable on return."""

    collections: Collection[str] = ()
    """The collections of the service's own database that hold it: to lose one is to lose data."""

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        """Stores all commits or none, and returns what the log now holds under their ids.

        That is `commits` itself, or, if the first one's id existed already, the commits stored
        then (a repeat: nothing is written). New commits are pending until `confirmed`. A commit's
        `state` is stored with it, in place of an older one of its stream.
        Raises: ConcurrencyError (a `(stream, first)` is taken, or the stream's state is not older),
        InvalidMessage (cannot be stored: too large, integers beyond 64 bits), OutcomeUnknown,
        StoreUnavailable.
        """
        ...

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """Returns the highest version of each stream; streams without events are absent."""
        ...

    async def newest(self) -> str:
        """Returns the id of a commit stored recently and durably; empty if there is none."""
        ...

    async def held(self, ids: Sequence[str]) -> set[str]:
        """Returns which of these commits' ids the log holds."""
        ...

    async def examine(self, within: float = 30) -> str | None:
        """Checks that all it relies on exists, and reads its clock again; returns what is wrong.

        Creates again what it can. While something is missing without which it could not keep its
        promises, `append` raises StoreUnavailable. Raises: StoreUnavailable.
        """
        ...

    async def forget_snapshots(self) -> None:
        """Drops the snapshots of all streams: they may belong to a former log."""
        ...

    async def find(self, command_id: str) -> list[Commit]:
        """Returns the commits of one command: `id`, `id/2`, ...; empty if there are none."""
        ...

    async def commits(self, ids: Sequence[str]) -> list[Commit]:
        """Returns the commits with these ids, in any order; missing ones are absent."""
        ...

    def events(self, stream: str, after: int = 0) -> AsyncIterator[Sequence[tuple[int, Recorded]]]:
        """Yields the stream's events after version `after`, each with its version: only what it
        takes to build an aggregate. In pages, so that a long stream is never held whole."""
        ...

    async def pending(
        self, before: datetime, limit: int, since: datetime | None = None
    ) -> list[Commit]:
        """Returns unconfirmed commits, from `since` on and before `before`, oldest first."""
        ...

    async def backlog(self, most: int = 10_000) -> Backlog:
        """Returns what is unconfirmed, of which it counts `most` commits."""
        found = await self.pending(datetime.max.replace(tzinfo=UTC), most)
        return Backlog(len(found), found[0].time if found else None)

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        """Clears the pending mark. If this write is lost, a commit is published twice."""
        ...

    async def snapshot(self, stream: str) -> Snapshot | None:
        """Returns the latest snapshot of a stream: a cache, which may be absent at any time."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces an older snapshot of the stream; an equal or newer one stays."""
        ...

    async def state(self, stream: str) -> Snapshot | None:
        """Returns the state of a stream that is stored by its state, as of its latest commit that
        had one; None if there is none."""
        ...

    async def states(
        self,
        category: str,
        fields: Mapping[str, Any],
        limit: int,
        *,
        shape: str = "",
        after: str = "",
    ) -> list[Snapshot]:
        """Returns at most `limit` states of a category, of the streams after `after`, sorted by
        stream: those whose fields equal these values, and, with `shape`, all of another shape.

        Values are texts, numbers, truth values and None. A field that holds a list may count as
        equal to one of its items.
        """
        ...

    async def save_state(self, snapshot: Snapshot) -> None:
        """Stores a state apart from a commit, in place of one that is not newer."""
        ...

    async def prepare_states(self, category: str, indexes: Sequence[str]) -> None:
        """Makes what states of a category need to be found by these fields: an index for each. What
        is there for other fields goes, now or with the next states.

        Raises: StoreUnavailable, ConfigurationError.
        """
        ...

    async def forget_states(self, category: str = "") -> None:
        """Drops the states of a category, with their indexes, or (by default) all states."""
        ...

    async def categories(self) -> list[str]:
        """Returns all categories in the log, sorted."""
        ...

    def sending(self, since: datetime) -> AsyncIterator[Commit]:
        """Yields all commits that send commands, from `since` on, by time, then by version."""
        ...

    async def tally(self, without: Collection[str] = ()) -> list[EventCount]:
        """Counts the events in the log except those named `without`: by category, then by name.
        For people: it reads the whole log."""
        ...

    async def conversation(
        self, correlation_id: str, since: datetime | None = None
    ) -> list[Commit]:
        """Returns all commits with a correlation id, from `since` on, by time, then by version.
        For people: it reads all that was stored since then, or the whole log."""
        ...

    def every(self, since: datetime | None = None) -> AsyncGenerator[StoredCommit, None]:
        """Yields all commits, also those without events, from `since` on: by time, then by version,
        then by stream (as Python compares text). For moving a log: what is stored meanwhile is
        yielded or missed."""
        ...

    async def import_commits(self, copies: Sequence[StoredCommit]) -> None:
        """Stores commits of another log as they are, in any order; of those that are here already,
        it sets the pending mark. A fence does not stop it.

        Raises: ConfigurationError (a different commit has the id, or the place in the stream;
        others may have been stored), OutcomeUnknown and StoreUnavailable (repeating is safe),
        InvalidMessage.
        """
        ...

    async def fence(self, reason: str) -> None:
        """Has the server refuse what anybody appends, or handles with a session, from now on; waits
        for what is under way. Then `append` raises StoreUnavailable with the reason.

        Marks are still cleared. Raises: StoreUnavailable, OutcomeUnknown (repeating is safe).
        """
        ...

    async def unfence(self) -> None:
        """Takes the fence back. Raises: StoreUnavailable, OutcomeUnknown (repeating is safe)."""
        ...

    async def fenced(self) -> str:
        """Returns the reason of the fence; empty if there is none. Raises: StoreUnavailable."""
        ...

    def follow(self, last: int, categories: Sequence[str] = ()) -> AsyncGenerator[Commit, None]:
        """Yields the `last` commits with events, by time, and then, without end, each commit that
        is stored from now on, in the order of storing. Of these categories (default: all).

        Raises: StoreUnavailable (begin again), ConfigurationError (a server without a replica set).
        """
        ...


class FollowedLog(StoredLog, Protocol):
    """A copy of other services' streams, as far as they have arrived, in any order.

    Each commit holds one event and keeps that event's own time, by which `scan` goes; `arrived`
    goes by the time of storing. If an event has not arrived, its stream's versions have a gap.
    """

    async def keep(self, commits: Sequence[Commit]) -> None:
        """Stores new commits durably; the first to arrive for a version of a stream stays.

        Raises: InvalidMessage (one cannot be stored; others may have been), OutcomeUnknown and
        StoreUnavailable (repeating is safe).
        """
        ...

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """Returns the highest version stored here of each stream; streams never seen are absent."""
        ...

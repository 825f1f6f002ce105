"""What the bus asks of its stores: the event log, the read store, and small shared records.

Knows no database. Every implementation passes the contracts in `bus.testing`.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from bus.errors import EventMissing
from bus.stores.grouping import Grouping
from bus.stores.letters import Document as Document
from bus.stores.letters import KeepsLetters


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


class Tally(NamedTuple):
    """How many events of a name a category holds, from their first time to the last. `stream` and
    `version` tell where one of them stands."""

    name: str
    category: str
    count: int  # type: ignore[assignment]
    first: datetime
    last: datetime
    stream: str
    version: int


class ReadableLog(Protocol):
    """Commits by stream and by category, as the read deck reads them."""

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        """The commits that hold the stream's events beyond version `after`, in order.

        The first may begin at or before `after` (a commit is not cut). `limit` counts commits;
        0 means all.
        """
        ...

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

    async def tally(self, without: Collection[str] = ()) -> list[Tally]:
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


UNUSABLE = -1
"""Told as a version where what is stored as such is none: somebody else has written it."""


class Index(NamedTuple):
    """An index of a read collection. `keys` are (field, 1 | -1 | "text") pairs."""

    keys: tuple[tuple[str, int | str], ...]
    unique: bool = False


class Target(NamedTuple):
    """Where a projection keeps its documents and the versions they reached.

    `collection` names the documents, and all that is kept beside them (versions, parked streams,
    how far it was swept); `projection` is for people. With `versions_in_documents`, the document
    with key K is fed by the one stream `{category}-K` alone and holds its version as `_version`;
    otherwise the versions stand in the `checkpoints` collection, one row for each stream.
    """

    projection: str
    collection: str
    versions_in_documents: bool
    indexes: tuple[Index, ...] = ()


class Note(NamedTuple):
    """A small shared record. `revision` counts its changes; 0 where it was never written."""

    key: str
    value: Document
    revision: int = 0


class Write(NamedTuple):
    """A change of one document: a MongoDB update (upserted), or None to delete it."""

    key: str
    update: Mapping[str, Any] | None
    by: str = ""
    """The handler, for errors."""


class Changes(NamedTuple):
    """What a batch changes: writes, in order, and the version that each of its streams reached."""

    writes: Sequence[Write]
    versions: Mapping[str, int]


class Parked(NamedTuple):
    """A stream that a projection cannot apply just now.

    `tries` are those that failed; none while it only waits for an event of another service.
    `message` is the name of the event at `version`, which fails; `error`, `reason`, `frames` and
    `fingerprint` are those of its `Failure`.
    """

    stream: str
    version: int
    error: str
    tries: int
    next_try: datetime
    message: str = ""
    reason: str = ""
    frames: tuple[str, ...] = ()
    fingerprint: str = ""
    first_seen: datetime | None = None
    last_seen: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it stands aside for an event that may be on its way, and has not failed (yet)."""
        return self.tries == 0

    @property
    def awaits_release(self) -> bool:
        """Whether it waits for a release of the code that can read it."""
        return self.is_waiting and not self.is_missed

    @property
    def is_missed(self) -> bool:
        """Whether what it stands aside for is an event of another service that is not here."""
        return self.error == EventMissing.__name__


class Documents(Protocol):
    """Raw reads and writes of a read collection; tombstones never show.

    Filters, updates and sort orders are MongoDB's, and their values Python's: `bus.stores.values`
    says in which form each is kept. Documents come as stored, `_id` included, without the bus's own
    fields, a `Decimal128` as a `Decimal`.
    """

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None: ...

    async def find(
        self,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, Any]] = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]: ...

    async def count(self, filter: Mapping[str, Any]) -> int: ...

    async def distinct(self, field: str, filter: Mapping[str, Any]) -> list[Any]:
        """The different values of a field, in MongoDB's order; those of arrays one by one."""
        ...

    async def group(self, grouping: Grouping, filter: Mapping[str, Any]) -> list[Document]:
        """The groups of the documents that a filter selects, each a row of the fields that it is by
        (None where they are missing) and its totals. None where no document is selected."""
        ...


class ReadUnit(Protocol):
    """A batch's transaction, as the fold sees it: the versions its streams have reached (0 where
    never seen, `UNUSABLE` where there is none in its place), and the documents as they are within
    the transaction."""

    @property
    def versions(self) -> Mapping[str, int]: ...

    @property
    def documents(self) -> "WritableDocuments": ...


class WritableDocuments(Documents, Protocol):
    """Documents inside a batch's transaction."""

    async def update(self, key: str, update: Mapping[str, Any]) -> None:
        """Applies a MongoDB update to one document; makes it where it does not exist."""
        ...

    async def delete(self, key: str) -> None: ...


Fold = Callable[[ReadUnit], Awaitable[Changes]]


class Writer(Protocol):
    """The one writer of a projection's queue: owns the session of its transactions."""

    async def take_over(self) -> None:
        """Ends what a predecessor on this queue may have left open, and signs in as its heir."""
        ...

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        """Runs `fold` in one transaction over the streams' versions, and writes what it returns.

        `fold` may run several times: a conflict with another writer starts it again on fresh
        versions. Its own exceptions pass through, and then nothing is written. With `believed` the
        store may take the streams for being at these versions instead of reading them, as long as
        it writes nothing where they are not.
        Raises: ProjectionError (no update, or one that the database refuses; nothing is written),
        StoreUnavailable, OutcomeUnknown (repeating is safe: the versions decide).
        """
        ...

    async def close(self) -> None: ...


class ChangeFeed(Protocol):
    """Tells that a target's documents change; not which of them, nor how."""

    async def changed(self) -> bool:
        """Waits for a change, a second or so at most, and tells whether it is time to look.

        True at the first call: whatever changes from then on is told by later ones, once where it
        comes together. After an error the next call goes on where the feed was; where that cannot
        be had, it is True, as the first one. Raises: StoreUnavailable, ConfigurationError.
        """
        ...

    async def close(self) -> None:
        """Ends it; what the store holds for it is let go."""
        ...


class ReadStore(KeepsLetters, Protocol):
    """Read collections, checkpoints, parked streams, dead letters, and small shared records."""

    def now(self) -> datetime:
        """The time by the store's own clock: what processes write down for each other goes by it
        (marks of sweeps, the next try of a parked stream), and never by that of one of them."""
        ...

    async def open(self, *, makes: bool = True) -> None:
        """Connects, makes the shared indexes, and checks that transactions are to be had; without
        `makes`, for somebody who only looks, makes nothing.

        Raises: StoreUnavailable, ConfigurationError (no replica set).
        """
        ...

    async def close(self) -> None:
        """Ends its own tasks; the client remains the caller's."""
        ...

    async def prepare(self, target: Target) -> Sequence[str]:
        """Makes the target's collection and indexes. Idempotent.

        Returns what could not be made as it is declared, each with its remedy: an index that exists
        with other options, say. Raises: StoreUnavailable, ConfigurationError.
        """
        ...

    def documents(self, target: Target) -> Documents: ...

    def changes(self, target: Target) -> ChangeFeed:
        """A feed of the target's changes; it costs nothing before its first call."""
        ...

    def writer(self, target: Target, queue: str) -> Writer: ...

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        """Adds whole documents, with `_id` and the bus's own fields, durably; those whose key is
        taken already stay as they are. Raises: ProjectionError (one is refused; others may have
        been added), StoreUnavailable, OutcomeUnknown (repeating is safe).
        """
        ...

    async def page(self, target: Target, after: str, limit: int) -> list[Document]:
        """Whole documents in the order of their keys, from beyond `after` on: with the bus's own
        fields, and hidden ones too."""
        ...

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        """Whole documents by key, as `page` has them; those that are not there are absent."""
        ...

    async def sample(self, target: Target, count: int) -> list[str]:
        """Keys of documents chosen at random, `count` at most."""
        ...

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        """Puts a whole document in the place of another (None: none), if that stands there still,
        field by field. Raises: ProjectionError (refused), StoreUnavailable, OutcomeUnknown.
        """
        ...

    async def show(self, name: str, target: Target | None) -> str | None:
        """Has the database's own readers (shells, scripts, reports) find under `name` what readers
        of the bus find in the target: no hidden documents, no fields of the bus's own. Without a
        target, nothing is found there any more.

        Returns what keeps it from that: something else has the name, which stays as it is, or a
        right is missing. Raises: StoreUnavailable.
        """
        ...

    async def drop(self, target: Target) -> None:
        """Removes the target's documents and all that is kept beside them, its notes too (whose
        keys begin with the collection's name and a slash). Idempotent."""
        ...

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """The versions that the target has reached, durably; streams never seen are absent, and
        `UNUSABLE` is told where no version stands in its place."""
        ...

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        """What `versions` tells of the target, page by page: by key of the document or stream
        (wherever versions stand), in order, from beyond `after` on."""
        ...

    async def park(self, target: Target, parked: Parked) -> None: ...

    async def unpark(self, target: Target, stream: str) -> None: ...

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        """The streams that are parked there; of these, or all."""
        ...

    async def swept(self, target: Target) -> datetime | None:
        """Up to when the target was last compared with the log."""
        ...

    async def mark_swept(self, target: Target, until: datetime) -> None: ...

    async def note(self, key: str) -> Note:
        """A shared record, as a majority holds it; empty, of revision 0, where there is none."""
        ...

    async def write_note(self, note: Note) -> bool:
        """Writes the record if nobody has since `note.revision`, which then counts one more."""
        ...

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """What stands in the database under the name of each collection (or of these): another
        identity where it was dropped and made again, or put in its place."""
        ...

    async def seal(self) -> Document:
        """A record that stands among the checkpoints, as `set_seal` left it; empty where none
        does."""
        ...

    async def set_seal(self, value: Document) -> None:
        """Replaces that record, but for one with a greater `turn`. From then on no transaction
        over checkpoints is carried out without it, or with one of a smaller turn: they raise
        `Discontinued`."""
        ...

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Takes or keeps a lease; False while another owner holds it.

        It saves work and guards nothing.
        """
        ...

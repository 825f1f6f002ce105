"""What a place for documents must do: keep them together with the versions they have reached.

Knows no database. Every implementation passes the contracts in `bus.testing.contracts`.
"""

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple, Protocol

from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.grouping import Grouping

UNUSABLE = -1
"""Stands for a stored version that is not one, because somebody else has written it."""
UNKNOWN = "?"
"""Stands for the identity of a collection whose place cannot be asked at present."""


class Index(NamedTuple):
    """An index of a read collection. `keys` are (field, 1 | -1 | "text") pairs."""

    keys: tuple[tuple[str, int | str], ...]
    unique: bool = False


class Target(NamedTuple):
    """Where a projection keeps its documents and the versions they reached.

    `collection` names the documents, and what is kept about them elsewhere (versions, parked
    streams, how far it was swept); `projection` is for people. With `versions_in_documents`, the
    document with key K is fed by the stream `{category}-K` alone and holds its version as
    `_version`; otherwise the versions are in the `checkpoints` collection, a row for each stream.
    `place` is the kind of the sink that keeps them; "" is the service's own place for documents.
    """

    projection: str
    collection: str
    versions_in_documents: bool
    indexes: tuple[Index, ...] = ()
    place: str = ""


class Write(NamedTuple):
    """A change of one document: a MongoDB update (upserted), or None to delete it.

    For a sink it is what a handler returned, and `key` what the sink takes for one; `stream` and
    `version` are those of the event.
    """

    key: Any
    update: Any
    by: str = ""
    """The handler, for errors."""
    stream: str = ""
    version: int = 0


class Changes(NamedTuple):
    """What a batch changes: writes, in order, and the version that each of its streams reaches."""

    writes: Sequence[Write]
    versions: Mapping[str, int]


class StoredDocuments(Protocol):
    """Raw reads of a read collection; tombstones never show.

    Filters, updates and sort orders are MongoDB's, with Python's values:
    `bus.stores.documents.values` says in which form each is stored. Documents are returned as they
    are stored, with `_id`, without the bus's own fields, and a `Decimal128` as a `Decimal`.
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
        """Returns the distinct values of a field, in MongoDB's order; those in arrays too."""
        ...

    async def group(self, grouping: Grouping, filter: Mapping[str, Any]) -> list[Document]:
        """Returns the groups of the documents that a filter selects: for each a row of the fields
        grouped by (None if missing) and its totals. No rows if no document is selected."""
        ...


class ReadUnit(Protocol):
    """A batch's transaction, as the fold sees it: the versions that its streams have reached (0 if
    never seen, `UNUSABLE` if what is stored is not one), and the documents within the
    transaction."""

    @property
    def versions(self) -> Mapping[str, int]: ...

    @property
    def documents(self) -> "WritableDocuments": ...


class WritableDocuments(StoredDocuments, Protocol):
    """Documents inside a batch's transaction."""

    async def update(self, key: str, update: Mapping[str, Any]) -> None:
        """Applies a MongoDB update to one document; makes it if it does not exist."""
        ...

    async def delete(self, key: str) -> None: ...


Fold = Callable[[ReadUnit], Awaitable[Changes]]


class Writer(Protocol):
    """The one writer of a projection's queue, which owns the session of its transactions."""

    async def take_over(self) -> None:
        """Ends what the previous writer of this queue may have left open, and takes its place."""
        ...

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        """Runs `fold` in one transaction over the streams' versions, and writes what it returns.

        `fold` may run several times: a conflict with another writer starts it again on fresh
        versions. Its own exceptions pass through, and nothing is written. With `believed` the store
        may assume that the streams are at these versions instead of reading them, as long as it
        writes nothing if they are not.
        Raises: ProjectionError (not an update, or one that the database refuses; nothing is
        written), StoreUnavailable, OutcomeUnknown (repeating is safe: the versions decide).
        """
        ...

    async def close(self) -> None: ...


class ChangeFeed(Protocol):
    """Notices that a target's documents change, but not which of them, nor how."""

    async def changed(self) -> bool:
        """Waits for a change, a second or so at most, and returns whether it is time to look.

        The first call returns True. Later ones do so for all that changes from then on, once for
        changes that come together. After an error the next call continues where the feed was; if
        that is impossible, it returns True, as the first one. Raises: StoreUnavailable,
        ConfigurationError.
        """
        ...

    async def close(self) -> None:
        """Ends the feed, and releases what the store holds for it."""
        ...


class Collections(Protocol):
    """A place for read collections: documents, and the versions that these have reached.

    What else a place can do is promised separately: `LoadsInBulk`, `LoadsStreams`, `Comparable`,
    `Watchable`, `Browsable`.
    """

    async def open(self, *, makes: bool = True) -> None:
        """Connects, and makes what all targets share; without `makes`, which is for those who only
        look, makes nothing. Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks; the caller closes a client that it was given."""
        ...

    async def prepare(self, target: Target) -> Sequence[str]:
        """Makes the target's collection and indexes. Idempotent.

        Returns what could not be made as declared (an index exists with other options, say), each
        with its remedy. Raises: StoreUnavailable, ConfigurationError.
        """
        ...

    async def drop(self, target: Target) -> None:
        """Removes the target's documents and their versions. Idempotent."""
        ...

    def documents(self, target: Target) -> StoredDocuments: ...

    def writer(self, target: Target, queue: str) -> Writer: ...

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """Returns the versions that the target has durably reached: none for streams never seen,
        `UNUSABLE` if what is stored is not a version."""
        ...

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        """Returns what `versions` does for the whole target, page by page: by key of the document,
        or by stream (depending on where versions are stored), in order, beyond `after`."""
        ...

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns an identity for each collection (or these) by name: another one if the collection
        was dropped and made again, or replaced."""
        ...

    async def seal(self) -> Document:
        """Returns the record among the checkpoints that `set_seal` stored; empty if none is."""
        ...

    async def set_seal(self, value: Document) -> None:
        """Replaces that record, unless it has a greater `turn`. From then on transactions over
        checkpoints raise `Discontinued` if the record is missing or has a smaller turn."""
        ...


class LoadsInBulk(Collections, Protocol):
    """It can store documents without transactions, for a rebuild, which is their only writer."""

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        """Adds whole documents, with `_id` and the bus's own fields, durably; leaves documents that
        are already there as they are. Raises: ProjectionError (one is refused; others may have been
        added), StoreUnavailable, OutcomeUnknown (repeating is safe).
        """
        ...


class LoadsStreams(Collections, Protocol):
    """It can store what whole streams make of rows that are each fed by one of them: for a rebuild,
    which is their only writer."""

    async def load_streams(self, target: Target, changes: Changes) -> Collection[str]:
        """Adds what writes make, in their order, of rows that do not exist, and the versions that
        their streams reach: all or nothing, where there are transactions. Returns the streams that
        have a version already, of which it has written nothing. Raises: ProjectionError (a row is
        refused), StoreUnavailable, OutcomeUnknown (repeating is safe).
        """
        ...


class Comparable(Collections, Protocol):
    """It can read whole documents and correct them, for an audit."""

    async def page(self, target: Target, after: str, limit: int) -> list[Document]:
        """Returns whole documents in the order of their keys, beyond `after`: hidden ones too, and
        with the bus's own fields."""
        ...

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        """Returns whole documents by key, as `page` does; none for keys that are not there."""
        ...

    async def sample(self, target: Target, count: int) -> list[str]:
        """Returns keys of documents chosen at random, `count` at most."""
        ...

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        """Replaces a whole document by another (None: none), if it is still the same, field by
        field; returns whether it was.

        Raises: ProjectionError (refused), StoreUnavailable, OutcomeUnknown.
        """
        ...


class Watchable(Collections, Protocol):
    """It can notice that documents change."""

    def changes(self, target: Target) -> ChangeFeed:
        """Returns a feed of the target's changes, which costs nothing before its first call."""
        ...


class Browsable(Collections, Protocol):
    """It can let the database's own readers find what readers of the bus find."""

    async def show(self, name: str, target: Target | None) -> str | None:
        """Lets the database's own readers (shells, scripts, reports) find under `name` what readers
        of the bus find in the target: no hidden documents, none of the bus's own fields. Without a
        target, they find nothing there any more.

        Returns what prevents it: something else has the name, which then stays as it is, or a right
        is missing. Raises: StoreUnavailable.
        """
        ...


class Divided(Collections, Protocol):
    """It consists of several places, each for some targets."""

    def place_of(self, target: Target) -> Collections:
        """Returns the place of a target. Raises: NotBuilt if another release has it elsewhere."""
        ...


def able(collections: Collections, capability: Any, target: Target) -> Any:
    """Returns the target's place if it has all that a capability asks; None otherwise."""
    place = _place_of(collections, target)
    return None if _lacking(place, capability) else place


def needed(
    collections: Collections, capability: Any, *, target: Target, what: str, remedy: str
) -> Any:
    """Returns the target's place. Raises: ConfigurationError if it lacks what `what` needs."""
    place = _place_of(collections, target)
    if lacking := _lacking(place, capability):
        raise ConfigurationError(
            f"projection {target.projection!r}: {what} needs collections that are "
            f"{capability.__name__}, and {_named(place)} is not: it has no {', '.join(lacking)}; "
            f"{remedy}, or write what bus.stores.collections.{capability.__name__} asks"
        )
    return place


def _named(place: Any) -> str:
    return getattr(place, "label", "") or type(place).__name__


def _place_of(collections: Collections, target: Target) -> Any:
    of: Any = getattr(collections, "place_of", None)
    return of(target) if of else collections


def _lacking(collections: Collections, capability: Any) -> list[str]:
    """Returns the names that are missing. Only names count, so that a wrapper has what it wraps."""
    names = [name for name in vars(capability) if not name.startswith("_")]
    return [name for name in names if not hasattr(collections, name)]

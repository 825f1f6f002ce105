"""Collections: what is asked of a place for documents, and of the versions that these have reached.

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
"""Told as a version where what is stored as such is none: somebody else has written it."""


class Index(NamedTuple):
    """An index of a read collection. `keys` are (field, 1 | -1 | "text") pairs."""

    keys: tuple[tuple[str, int | str], ...]
    unique: bool = False


class Target(NamedTuple):
    """Where a projection keeps its documents and the versions they reached.

    `collection` names the documents, and what is kept of them elsewhere (versions, parked streams,
    how far it was swept); `projection` is for people. With `versions_in_documents`, the document
    with key K is fed by the one stream `{category}-K` alone and holds its version as `_version`;
    otherwise the versions stand in the `checkpoints` collection, one row for each stream.
    """

    projection: str
    collection: str
    versions_in_documents: bool
    indexes: tuple[Index, ...] = ()


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


class StoredDocuments(Protocol):
    """Raw reads and writes of a read collection; tombstones never show.

    Filters, updates and sort orders are MongoDB's, and their values Python's:
    `bus.stores.documents.values` says in which form each is kept. Documents come as stored, `_id`
    included, without the bus's own fields, a `Decimal128` as a `Decimal`.
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


class WritableDocuments(StoredDocuments, Protocol):
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


class Collections(Protocol):
    """A place for read collections: documents, and the versions that these have reached.

    What else one can do, each as a promise of its own: `LoadsInBulk`, `Comparable`, `Watchable`,
    `Browsable`.
    """

    async def open(self, *, makes: bool = True) -> None:
        """Connects, and makes what all targets share; without `makes`, for somebody who only looks,
        makes nothing. Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks; a client that it was given remains the caller's."""
        ...

    async def prepare(self, target: Target) -> Sequence[str]:
        """Makes the target's collection and indexes. Idempotent.

        Returns what could not be made as it is declared, each with its remedy: an index that exists
        with other options, say. Raises: StoreUnavailable, ConfigurationError.
        """
        ...

    async def drop(self, target: Target) -> None:
        """Removes the target's documents and their versions. Idempotent."""
        ...

    def documents(self, target: Target) -> StoredDocuments: ...

    def writer(self, target: Target, queue: str) -> Writer: ...

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """The versions that the target has reached, durably; streams never seen are absent, and
        `UNUSABLE` is told where no version stands in its place."""
        ...

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        """What `versions` tells of the target, page by page: by key of the document or stream
        (wherever versions stand), in order, from beyond `after` on."""
        ...

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """What stands there under the name of each collection (or of these): another identity where
        it was dropped and made again, or put in its place."""
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


class LoadsInBulk(Collections, Protocol):
    """Documents come in without transactions, as a rebuild has them: it is their only writer."""

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        """Adds whole documents, with `_id` and the bus's own fields, durably; those whose key is
        taken already stay as they are. Raises: ProjectionError (one is refused; others may have
        been added), StoreUnavailable, OutcomeUnknown (repeating is safe).
        """
        ...


class Comparable(Collections, Protocol):
    """Documents can be read whole and put right, as an audit does."""

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


class Watchable(Collections, Protocol):
    """It is told when documents change."""

    def changes(self, target: Target) -> ChangeFeed:
        """A feed of the target's changes; it costs nothing before its first call."""
        ...


class Browsable(Collections, Protocol):
    """The database's own readers find what readers of the bus find."""

    async def show(self, name: str, target: Target | None) -> str | None:
        """Has the database's own readers (shells, scripts, reports) find under `name` what readers
        of the bus find in the target: no hidden documents, no fields of the bus's own. Without a
        target, nothing is found there any more.

        Returns what keeps it from that: something else has the name, which stays as it is, or a
        right is missing. Raises: StoreUnavailable.
        """
        ...


def able(collections: Collections, capability: Any) -> Any:
    """The place itself, if it has all that a capability asks; None otherwise."""
    return None if _lacking(collections, capability) else collections


def needed(
    collections: Collections, capability: Any, *, projection: str, what: str, remedy: str
) -> Any:
    """The place itself. Raises: ConfigurationError where it lacks what `what` needs."""
    if lacking := _lacking(collections, capability):
        raise ConfigurationError(
            f"projection {projection!r}: {what} needs collections that are "
            f"{capability.__name__}, and {type(collections).__name__} is not: it has no "
            f"{', '.join(lacking)}; {remedy}, or write what "
            f"bus.stores.collections.{capability.__name__} asks"
        )
    return collections


def _lacking(collections: Collections, capability: Any) -> list[str]:
    """Looks at names alone: one that only wraps another place has what that has."""
    names = [name for name in vars(capability) if not name.startswith("_")]
    return [name for name in names if not hasattr(collections, name)]

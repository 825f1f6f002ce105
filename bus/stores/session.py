"""A handler's session, and what runs it: writes that happen at once with its commits, or not.

Knows no database. Every implementation passes `bus.testing.contracts.effects_contract`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bus.data.limits import not_text, plain_text, size_of
from bus.data.payload import Document
from bus.errors import ConfigurationError, ProjectionError
from bus.stores.collections import (
    Target,
    WritableDocuments,
)
from bus.stores.event_log import Commit
from bus.stores.grouping import Grouping

Result = TypeVar("Result")

OWN_COLLECTIONS = frozenset(
    [
        "commits",
        "snapshots",
        "states",
        "projections",
        "checkpoints",
        "writers",
        "parked",
        "swept",
        "leases",
        "dead_letters",
        "handled",
        "followed",
    ]
)
"""The collections that only the bus writes."""


class Session(Protocol):
    """What a handler of commands or events writes, in one transaction with all else that it stores.

        @prices.command
        async def set_price(command: SetPrice, session: Session, outbox: Outbox) -> None:
            prices = session.documents("prices")
            await prices.update(command.article, {"$set": {"eur": command.eur}})
            outbox.publish(PriceSet(article=command.article), stream=f"price-{command.article}")

    That is what it records on aggregates, sends and publishes through its `Outbox`, and of a
    command its id, of an event the mark that this subscription handled it: a repeat changes
    nothing. After a conflict with another writer the handler runs again, and only what its last
    run wrote counts; effects outside of the session may repeat. One operation at a time, each
    awaited within the handler: a session refuses every use once its handler has ended.
    """

    def documents(self, collection: str) -> WritableDocuments:
        """Returns one of the service's own collections, in the service's database. It keeps
        Python's values in the same forms as read collections do (docs/projections.md).

        Raises: ConfigurationError if it belongs to the bus or to a projection.
        """
        ...

    @property
    def native(self) -> Any:
        """The driver's session: an operation without `session=session.native` is not part of it.
        It ends with the handler, and is never used for another one.

        Raises: ConfigurationError in memory.
        """
        ...

    @property
    def database(self) -> Any:
        """The driver's database. Raises: ConfigurationError in memory."""
        ...


Handling = Callable[[Any], Awaitable[Sequence[Commit]]]
"""Runs a handler with a session of the type that `Effects.lends`, and returns its commits."""


class Effects(Protocol):
    """Runs handlers so that what they write in a session, and their commits, is stored at once."""

    lends: type = Session
    """The type by which a handler asks for the session."""

    async def open(self) -> None:
        """Creates what it needs. Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks and sessions; the client remains the caller's."""
        ...

    async def once(self, id: str, handling: Handling) -> Sequence[Commit] | None:
        """Stores atomically what `handling` writes, the commits that it returns, and the mark `id`.

        Returns the commits, or None if the mark exists already; then nothing is stored. `handling`
        may run several times; its own exceptions pass through, and then nothing is stored.
        Raises: ConcurrencyError, InvalidMessage, ProjectionError (a write is refused),
        StoreUnavailable, OutcomeUnknown (repeating is safe: the mark decides).
        """
        ...

    async def commit(self, handling: Handling) -> Sequence[Commit]:
        """Stores atomically what a command's handler writes and the commits that it returns, and
        returns what the log now holds under their ids, as `EventLog.append` does.

        That is what `handling` returned, or, if the first commit's id existed already, the commits
        stored then (a repeat: nothing is written). `handling` may run several times; its own
        exceptions pass through, and then nothing is stored.
        Raises: ConcurrencyError (a place in a stream is taken), InvalidMessage, ProjectionError (a
        write is refused), StoreUnavailable, OutcomeUnknown (the log was asked, too).
        """
        ...

    async def marks(self, after: str, limit: int, since: datetime | None = None) -> list[str]:
        """Returns at most `limit` marks after `after`, sorted; only those set from `since` on."""
        ...

    async def remember(self, marks: Sequence[str]) -> None:
        """Adds marks as of now, if they do not exist: those of a log that was moved here. A fence
        does not stop it. Raises: StoreUnavailable, OutcomeUnknown (repeating is safe)."""
        ...

    async def forget(self, marks: Sequence[str]) -> None:
        """Removes marks, so that these events are handled if they come again."""
        ...


class Joined(Protocol):
    """A transaction of the application's own, which it commits itself."""

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """Returns the heads of streams, as `EventLog.heads` does, as the transaction sees them.

        Raises: ConfigurationError (it is another database's), StoreUnavailable.
        """
        ...

    async def append(self, commits: Sequence[Commit], stored: Callable[[], object]) -> None:
        """Adds commits to the transaction; calls `stored` once it is committed, and not if it (or
        the part of it in which this happens) is rolled back.

        Raises: ConcurrencyError (a place in a stream is taken), ConfigurationError, InvalidMessage,
        StoreUnavailable.
        """
        ...


Join = Callable[[Any], Joined]
"""Returns the transaction of an application's session. Raises: ConfigurationError."""


class Use:
    """Guards the use of a session, which ends with its handler."""

    def __init__(self) -> None:
        self._ended = False
        self._under_way = 0
        self._idle = asyncio.Event()

    def check(self, what: str) -> None:
        """Raises: ProjectionError once the handler has ended."""
        if self._ended:
            raise ProjectionError(
                f"session.{what}: its handler has ended, and the transaction with it; await each "
                f"operation of a session within the handler (a task too, or have an "
                f"asyncio.TaskGroup do it)"
            )

    @contextmanager
    def operation(self, what: str) -> Iterator[None]:
        """Counts an operation in flight. Raises: like `check`."""
        self.check(what)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def end(self) -> None:
        """Refuses every use from now on."""
        self._ended = True

    async def settle(self) -> bool:
        """Ends it, waits for operations in flight, and returns whether there were any."""
        self.end()
        if not self._under_way:
            return False
        self._idle.clear()
        await self._idle.wait()
        return True


class SessionDocuments(WritableDocuments):
    """A collection of a session, with the same checks in every store."""

    def __init__(self, documents: WritableDocuments, collection: str, use: Use) -> None:
        self._documents = documents
        self._name = f"documents({collection!r})"
        self._use = use

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None:
        with self._use.operation(self._name):
            return await self._documents.find_one(filter)

    async def find(
        self,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, Any]] = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        with self._use.operation(self._name):
            return await self._documents.find(filter, sort=sort, skip=skip, limit=limit)

    async def count(self, filter: Mapping[str, Any]) -> int:
        with self._use.operation(self._name):
            return await self._documents.count(filter)

    async def distinct(self, field: str, filter: Mapping[str, Any]) -> list[Any]:
        with self._use.operation(self._name):
            return await self._documents.distinct(field, filter)

    async def group(self, grouping: Grouping, filter: Mapping[str, Any]) -> list[Document]:
        with self._use.operation(self._name):
            return await self._documents.group(grouping, filter)

    async def update(self, key: str, update: Mapping[str, Any]) -> None:
        with self._use.operation(self._name):
            await self._documents.update(self._key(key), update)

    async def delete(self, key: str) -> None:
        with self._use.operation(self._name):
            await self._documents.delete(self._key(key))

    def _key(self, key: Any) -> str:
        if not isinstance(key, str) or not key:
            what = "a document's key"
            why = f"{what} is not empty" if key == "" else not_text(what, key)
            raise ProjectionError(f"session.{self._name}: {why}")
        return plain_text(key)


class Ending(Session, Protocol):
    """A session as its store sees it."""

    use: Use

    @property
    def refused(self) -> ProjectionError | None:
        """The error of an operation that ended the transaction, if repeating cannot help."""
        ...


async def handled(handling: Callable[[Session], Awaitable[Result]], session: Ending) -> Result:
    """Runs a handler and returns its result; its session ends with it.

    Raises: ProjectionError if the handler left an operation in flight, or swallowed the error of
    one that ended the transaction; and what the handler raises.
    """
    try:
        result = await handling(session)
    except Exception:
        await session.use.settle()
        raise
    finally:
        session.use.end()
    if await session.use.settle():
        raise ProjectionError(
            "the handler ended while an operation of its session was under way; await each one "
            "within the handler (a task too, or have an asyncio.TaskGroup do it)"
        )
    if session.refused is not None:
        raise swallowed(session.refused)
    return result


def swallowed(error: ProjectionError) -> ProjectionError:
    """Returns the error for a handler that went on after an error that ended its transaction."""
    return ProjectionError(
        f"the transaction had ended before its handler did, which swallowed the error of an "
        f"operation in it (let it pass: it ends the transaction): {error}"
    )


MOST_NAME = 190
"""Bytes of a collection's name; MongoDB takes 255 together with the database's name."""


def own_target(collection: str, projected: Collection[str]) -> Target:
    """Returns one of the service's own collections. Raises: ConfigurationError if it is not one."""
    if why := _no_name(collection):
        raise ConfigurationError(f"session.documents({collection!r:.100}): {why}")
    collection = plain_text(collection)
    if owner := owner_of(collection, projected):
        raise ConfigurationError(
            f"session.documents({collection!r}): this collection belongs to {owner}; "
            f"choose another name for what the handler writes"
        )
    return Target(collection, collection, versions_in_documents=False)


def _no_name(collection: Any) -> str:
    """Returns why it cannot be a collection's name; empty if it can."""
    if not isinstance(collection, str):
        return not_text("a collection's name", collection)
    parts = collection.split(".")
    if all(parts) and not {"$", "\0"} & set(collection) and size_of(collection) <= MOST_NAME:
        return ""
    return (
        f"no collection can have this name; give 1 to {MOST_NAME} bytes, without $ and NUL, and "
        f"no dot at an end or beside another"
    )


def owner_of(collection: str, projected: Collection[str]) -> str:
    """Returns whose a collection is, in words; empty if it is the service's own."""
    if any(collection == name or collection.startswith(f"{name}__v") for name in projected):
        return "a projection"
    of_bus = collection in OWN_COLLECTIONS or collection.startswith("system.")
    return "the bus" if of_bus else ""

"""What a place of another technology must do to be fed by a projection: a table, an index, a topic.

Knows none of them. Every implementation passes `bus.testing.contracts.sink_contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from bus.errors import NotBuilt, ProjectionError
from bus.stores.collections import Changes, Target

Number = int | float | Decimal


class Upsert:
    """Returned by a projection's handler: sets these fields of a row or document, and leaves its
    others; makes it if it does not exist.

        return Upsert(title=event.title, status="open")
    """

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Fields whose names are no Python names go into the mapping `values`."""
        self.values: Mapping[str, Any] = {**(values or {}), **fields}


class Increment:
    """Returned by a projection's handler: adds to numbers of a row or document, where a missing one
    counts as 0; makes it if it does not exist.

        return Increment(applications=1)
    """

    __slots__ = ("amounts",)

    def __init__(self, amounts: Mapping[str, Number] | None = None, /, **fields: Number) -> None:
        self.amounts: Mapping[str, Number] = {**(amounts or {}), **fields}


class Remove:
    """Returned by a projection's handler: removes the row or document, if it is there."""

    __slots__ = ()


class Place(Protocol):
    """Where one sink keeps the collections of its projection, while a bus is open.

    A collection is what one generation of the projection is built into: a table, an index. The
    bus names it (`target.collection`); readers use it once `show` was called with it.
    """

    async def open(self, *, makes: bool = True) -> None:
        """Connects, and makes what collections share; without `makes`, makes nothing. Other methods
        may be called even if this failed, and connect then. Raises: StoreUnavailable,
        ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks and connections."""
        ...

    @abstractmethod
    async def prepare(self, target: Target) -> Sequence[str]:
        """Makes a collection, if it does not exist. Returns what differs from the declaration, each
        with its remedy. Raises: StoreUnavailable, ConfigurationError."""

    @abstractmethod
    async def drop(self, target: Target) -> None:
        """Removes a collection and its versions, if they exist. Raises: StoreUnavailable."""

    @abstractmethod
    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """Returns the versions that these streams have durably reached in a collection, and that
        readers see; none for streams never seen. Raises: StoreUnavailable."""

    @abstractmethod
    async def write(self, target: Target, changes: Changes, before: Mapping[str, int]) -> bool:
        """Makes the writes, in their order, and has the streams reach their versions.

        It does so exactly once: returns False, and has written nothing that the next call would not
        take into account, if a stream is not at its version in `before` (0: never seen), because
        another writer was first. A place with transactions writes all or nothing. Raises:
        ProjectionError (a change is refused; nothing is written), StoreUnavailable, OutcomeUnknown
        (the versions decide when it is repeated).
        """

    @abstractmethod
    async def show(self, name: str, target: Target | None) -> str | None:
        """Lets readers without the bus find under `name` what the target holds (None: nothing any
        more), in one step: nobody sees half. Returns what prevents it, or None. Raises:
        StoreUnavailable."""


Lend = Callable[[Any, Target], AbstractAsyncContextManager[Any]]
"""Lends something of a place to read a collection with, for as long as a query's handler runs."""


class Sink(ABC):
    """Declares where a projection is kept, and how. No I/O.

    A projection's handlers return `changes`; queries take what `lends` names, by its type.
    """

    kind: ClassVar[str]
    """What it keeps, in a word: "table". It is noted with each collection, so that a collection of
    another technology is never looked for here."""
    changes: ClassVar[tuple[type, ...]] = (Upsert, Increment, Remove)
    """The types of what handlers may return."""
    versions_in_documents: ClassVar[bool] = False
    """Whether documents that are each fed by one stream hold its version themselves."""
    versions_in_checkpoints: ClassVar[bool] = False
    """Whether the service's own checkpoints hold the versions: then it stands on these, too."""

    keyed_by_id: bool = True
    """Whether the id of an aggregate can be the key of what its events change."""

    def problem_with(self, projection: str) -> str:
        """Returns why a projection of this name cannot be kept so; "" if it can."""
        return ""

    @abstractmethod
    def place(self, service: str) -> Place:
        """Makes the place, not yet connected, for one opening of a bus. Raises:
        ConfigurationError."""

    def check(self, key: Any, change: Any) -> None:
        """Raises: ProjectionError if a change, or the key of what it changes, is not possible."""
        if not isinstance(key, str) or not key:
            raise ProjectionError(f"the key {key!r:.100} is not a text, or is empty")

    def key_from(self, text: str) -> Any:
        """Returns the key that somebody has written as a text. Raises: ProjectionError."""
        return text

    def names_row(self, change: Any) -> bool:
        """Returns whether a change is of what its key names, and of nothing else."""
        return True

    def lends(self) -> Mapping[type, Lend]:
        """Returns what queries may take, by type."""
        return {}

    def given(self) -> Mapping[type, Callable[[Target], Any]]:
        """Returns what the projection's own handlers may take besides the event, by type."""
        return {}


def kept_elsewhere(target: Target, sink: Sink | None) -> NotBuilt:
    """Returns the error for a collection that code with another sink, or without one, keeps."""
    return NotBuilt(
        f"projection {target.projection!r}: {target.collection} is kept in another place "
        f"({target.place or 'documents'}) by another release of the code, and this one keeps it "
        f"{f'in its own ({sink.kind})' if sink else 'among its documents'}; wait until workers of "
        f"this release have built theirs, or use the code of the other"
    )

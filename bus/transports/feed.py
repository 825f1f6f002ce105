"""What is asked of a feed: another service's events from elsewhere than its own exchange.

A feed is read by a group of processes that share its parts. What was read counts as such only once
it is settled; until then it comes again, to whichever process has that part.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from bus.errors import InvalidMessage
from bus.transports.base import Frame


class Fed(NamedTuple):
    """What was read at one place: an event as its owner would publish it, or, with an `error`, what
    could be kept of something that is none. `place` is for people, `token` the reader's own."""

    frame: Frame
    place: str
    token: Any = None
    error: InvalidMessage | None = None


class FeedReader(Protocol):
    """One process's part in reading a feed. All methods raise: StoreUnavailable,
    ConfigurationError."""

    async def open(self) -> None:
        """Connects, and joins the group."""
        ...

    async def take(self, limit: int) -> list[Fed]:
        """Returns what has arrived, in order for each stream; waits a second at most."""
        ...

    async def settle(self, taken: Sequence[Fed]) -> None:
        """Has the group go on after these. If others have these parts by now, they read them
        again."""
        ...

    async def ends(self) -> dict[str, int]:
        """Returns the end of each part at present."""
        ...

    async def has_reached(self, ends: Mapping[str, int]) -> bool:
        """Returns whether the group has settled each part up to these ends."""
        ...

    async def close(self) -> None:
        """Leaves the group, and disconnects."""
        ...


class Feed(ABC):
    """Declares where the events of another service come from. No I/O. Equal feeds are one."""

    owner: str
    """The service that wrote the events, as in its `Bus(...)`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it reads, in a word or two, for logs and notes."""

    @abstractmethod
    def reader(self, owner: str, group: str) -> FeedReader:
        """Makes a reader, not yet connected. `owner` is the service's name as it runs; those of one
        `group` share what there is. Raises: ConfigurationError."""

    @abstractmethod
    def missing(self) -> str:
        """Returns what may have become of an event that does not come, while later ones do."""

"""Feeds in memory: what the log of another service on the ground holds, as a topic would bring it.

Knows nothing of where a feed would be read elsewhere: a `KafkaFeed` is read from the log, too.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from bus.codec import event_frames
from bus.stores.memory.log import MemoryLog
from bus.transports.feed import Fed, Feed, FeedReader

PAUSE = 0.005
"""For how long a reader waits for events before it has taken none, in seconds."""


class Group:
    """Readers that share a feed: the last one that was opened has it, until it is closed."""

    def __init__(self) -> None:
        self.place = 0
        """The number of commits that are settled."""
        self.holder: object = None


class MemoryFeed(Feed):
    """Stands for a feed that is declared: brings what its owner's log holds, history first."""

    def __init__(
        self, feed: Feed, log_of: Callable[[str], MemoryLog], groups: Mapping[str, Group]
    ) -> None:
        self.owner = feed.owner
        self._feed = feed
        self._log_of = log_of
        self._groups = groups
        self._reader: MemoryFeedReader | None = None

    @property
    def name(self) -> str:
        return self._feed.name

    def reader(self, owner: str, group: str) -> "MemoryFeedReader":
        found = self._groups[f"{group}/{self.name}"]
        self._reader = MemoryFeedReader(self.name, self._log_of(owner), found)
        return self._reader

    def missing(self) -> str:
        return self._feed.missing()

    def left(self, owner: str) -> int:
        """Returns how many of the owner's commits are still to be read."""
        return self._log_of(owner).size - (self._reader.settled if self._reader else 0)


class MemoryFeedReader(FeedReader):
    """Reads commits of a log in the order in which they were stored."""

    def __init__(self, name: str, log: MemoryLog, group: Group) -> None:
        self._name = name
        self._log = log
        self._group = group
        self._taken = 0

    @property
    def settled(self) -> int:
        """The number of commits that need not be read again."""
        return self._group.place

    async def open(self) -> None:
        self._take_over()

    async def take(self, limit: int) -> list[Fed]:
        """Returns the events of whole commits; none if another reader has the feed."""
        if self._group.holder is None:
            self._take_over()
        start = self._taken
        commits = self._log.stored(start, limit) if self._holds else []
        self._taken += len(commits)
        found = [
            Fed(frame, f"{self._name}/0@{number}", self._taken)
            for number, commit in enumerate(commits, start)
            for frame in event_frames(commit)
        ]
        if not found:
            self._settle(self._taken)  # commits of commands alone
            await asyncio.sleep(PAUSE)
        return found

    async def settle(self, taken: Sequence[Fed]) -> None:
        self._settle(max(fed.token for fed in taken))

    async def ends(self) -> dict[str, int]:
        return {"0": self._log.size}

    async def has_reached(self, ends: Mapping[str, int]) -> bool:
        return self._group.place >= ends["0"]

    async def close(self) -> None:
        if self._holds:
            self._group.holder = None

    def _settle(self, place: int) -> None:
        if self._holds:
            self._group.place = place

    @property
    def _holds(self) -> bool:
        return self._group.holder is self

    def _take_over(self) -> None:
        self._group.holder, self._taken = self, self._group.place

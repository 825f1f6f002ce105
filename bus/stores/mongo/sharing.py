"""Commits with states that arrive together share one transaction; each gets its own outcome.

If a transaction stores nothing, each half of it is tried by itself, down to the commit that was to
blame: a conflict of one costs the others no more than that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bson.raw_bson import RawBSONDocument

from bus.errors import InvalidMessage, OutcomeUnknown, StoreUnavailable
from bus.stores.event_log import Commit
from bus.stores.mongo.states import Write, write_of
from bus.stores.mongo.transactions import Taken
from bus.stores.records import NotOlder, commit_document, encoded, state_document
from bus.stores.together.appender import Append, Appended, Group, Settles


@dataclass(frozen=True, slots=True)
class Pair:
    """A commit and its state as they are sent."""

    document: RawBSONDocument
    write: Write
    size: int

    def __len__(self) -> int:
        """Returns its size in bytes."""
        return self.size


Share = Callable[[Sequence[Pair]], Awaitable[None]]
"""Stores commits of different streams in one transaction, which is tried once.

Raises: Taken, NotOlder, InvalidMessage, StoreUnavailable (nothing is stored), OutcomeUnknown."""
Alone = Callable[[Sequence[Commit]], Awaitable[Sequence[Commit]]]
"""Stores a commit by itself, as `EventLog.append` does."""
Look = Callable[[Sequence[Sequence[Commit]], OutcomeUnknown], Awaitable[Sequence[Commit]]]
"""Returns what the log holds after a transaction that ended in doubt, or raises that doubt."""


def pair_of(commit: Commit) -> Pair:
    """Returns a commit with its state as they are sent. Raises: InvalidMessage."""
    assert commit.state
    document, state = encoded(commit_document(commit)), encoded(state_document(commit.state))
    size = len(document) + len(state)
    return Pair(RawBSONDocument(document), write_of(commit.state, state), size)


class Sharing(Settles):
    """Stores one group of commits that have states."""

    def __init__(self, share: Share, alone: Alone, look: Look, group: Group) -> None:
        super().__init__(group)
        self._share = share
        self._alone = alone
        self._look = look

    async def run(self) -> None:
        await self._together(_different(self._group))
        # Of two for one stream, the second has lost to the first, or its place is free by now.
        await self._each_alone(self._open)

    async def _together(self, group: Group) -> None:
        if len(group) < 2:
            return await self._each_alone(group)
        try:
            await self._share([append.data for append in group])
        except (Taken, NotOlder, InvalidMessage):
            half = len(group) // 2
            await asyncio.gather(self._together(group[:half]), self._together(group[half:]))
        except StoreUnavailable:
            await self._each_alone(group)
        except OutcomeUnknown as doubt:
            looks = [self._settle(a, self._look([[a.commit]], doubt)) for a in group]
            await asyncio.gather(*looks)
        else:
            self._close(group, Appended.STORED)

    async def _each_alone(self, group: Group) -> None:
        tries = [self._settle(append, self._alone([append.commit])) for append in group]
        await asyncio.gather(*tries)

    async def _settle(self, append: Append, outcome: Awaitable[Sequence[Commit]]) -> None:
        try:
            stored = await outcome
        except Exception as error:
            self._fail([append], error)
        else:
            own = list(stored) == [append.commit]
            self._close([append], Appended.STORED if own else Appended.REPEAT)


def _different(group: Group) -> list[Append]:
    """Returns the first of each stream and id: a transaction cannot hold two of one."""
    streams = {append.commit.stream: append for append in reversed(group)}
    ids = {append.commit.id: append for append in reversed(list(streams.values()))}
    return list(ids.values())

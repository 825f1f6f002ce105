"""Two logs side by side: each commit with the other log's in the same place, and what is to be done
about those that lack one."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

from bus.stores.event_log import EventLog, StoredCommit

Pair = tuple[StoredCommit | None, StoredCommit | None]
Place = tuple[datetime, int, str]

MOST_COMMITS = 500
MOST_CHARACTERS = 4_000_000


async def pairs(
    log: EventLog, other: EventLog, since: datetime | None
) -> AsyncGenerator[Pair, None]:
    """Yields the commits of two logs from `since` on, in order; None for one that a log lacks."""
    async with aclosing(log.every(since)) as ours, aclosing(other.every(since)) as others:
        one, two = await anext(ours, None), await anext(others, None)
        while one or two:
            here, there = _place(one), _place(two)
            is_first = there is None or (here is not None and here <= there)
            is_second = here is None or (there is not None and there <= here)
            yield one if is_first else None, two if is_second else None
            one = await anext(ours, None) if is_first else one
            two = await anext(others, None) if is_second else two


def _place(stored: StoredCommit | None) -> Place | None:
    return stored and (stored.commit.time, stored.commit.first, stored.commit.stream)


class Batch:
    """Commits that are stored together: as many as memory bears."""

    def __init__(self) -> None:
        self.copies: list[StoredCommit] = []
        self._size = 0

    def add(self, copy: StoredCommit) -> None:
        self.copies.append(copy)
        self._size += len(repr(copy.commit.events))

    @property
    def is_full(self) -> bool:
        return len(self.copies) >= MOST_COMMITS or self._size > MOST_CHARACTERS

    def clear(self) -> None:
        self.copies = []
        self._size = 0

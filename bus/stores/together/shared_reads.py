"""Reads of streams that arrive together share one query; each caller gets its own answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from bus.errors import StoreUnavailable
from bus.stores.together.groups import Grouping, reject, resolve

MOST_STREAMS = 200


class Read(NamedTuple):
    """A read of a stream after a version, and its waiting caller."""

    stream: str
    after: int
    waiting: "asyncio.Future[Any]"

    def answer(self, found: Any) -> None:
        resolve(self.waiting, found)


class SharedReads:
    """Calls `answer` with reads of different streams, sorted by stream; it answers each.

    Cancelling a caller affects no other.
    """

    def __init__(self, answer: Callable[[Sequence[Read]], Awaitable[None]]) -> None:
        self._answer = answer
        self._arrived: list[Read] = []
        self._grouping = Grouping(self._read_next)

    async def read(self, stream: str, after: int = 0) -> Any:
        """Returns the answer. Raises: what `answer` raises; StoreUnavailable."""
        read = Read(stream, after, asyncio.get_running_loop().create_future())
        self._arrived.append(read)
        self._grouping.arrived()
        return await read.waiting

    async def close(self) -> None:
        """Waits until reads that were begun are done."""
        await self._grouping.close()

    async def _read_next(self) -> bool:
        group = self._next_group()
        try:
            await self._answer(group)
        except Exception as error:
            _fail(group, error)
        except BaseException:
            _fail(group, StoreUnavailable("the reader was stopped"))
            raise
        return bool(self._arrived)

    def _next_group(self) -> list[Read]:
        """Takes one read for each stream; a second one waits, because callers may change what they
        get."""
        group: dict[str, Read] = {}
        later: list[Read] = []
        for read in self._arrived:
            if read.stream in group or len(group) == MOST_STREAMS:
                later.append(read)
            elif not read.waiting.cancelled():
                group[read.stream] = read
        self._arrived = later
        return sorted(group.values())


def _fail(group: Iterable[Read], error: Exception) -> None:
    for read in group:
        reject(read.waiting, error)

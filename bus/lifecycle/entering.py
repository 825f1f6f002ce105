"""Opens something once in each event loop, however often it is entered there.

Futures, tasks and connections belong to one loop; another loop gets its own.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from threading import get_ident
from typing import Generic, TypeVar

Value = TypeVar("Value")
Opens = Callable[[], AbstractAsyncContextManager[Value]]


class Place(Generic[Value]):
    """What is open in one loop, and for how many callers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = get_ident()
        self.entered = 0
        self.one_by_one = asyncio.Lock()
        self.value: Value | None = None
        self.context: AbstractAsyncContextManager[Value] | None = None

    async def enter(self, opens: Opens[Value]) -> Value:
        """Opens it if nobody has. A caller that comes meanwhile waits, and tries if that failed."""
        self.entered += 1
        try:
            async with self.one_by_one:
                if self.value is None:
                    context = opens()
                    self.value, self.context = await context.__aenter__(), context
                return self.value
        except BaseException:
            self.entered -= 1
            raise

    async def leave(self) -> None:
        """Closes it if all have left. A caller that comes meanwhile waits, and opens it again."""
        self.entered -= 1
        if self.entered:
            return
        # Before it closes: a caller that enters meanwhile must not get what is being closed.
        context, self.context, self.value = self.context, None, None
        if context is not None:
            async with self.one_by_one:
                await context.__aexit__(None, None, None)


class Entered(Generic[Value]):
    """Opens with `opens` in each loop in which it is entered, and closes as the last one leaves."""

    def __init__(self, opens: Opens[Value]) -> None:
        self._opens = opens
        self._places: dict[asyncio.AbstractEventLoop, Place[Value]] = {}
        self.last: Place[Value] | None = None
        """Where it was entered last. A thread runs one loop at a time, so if this is its thread and
        its loop runs, it is here. (Asking for the loop is a system call before Python 3.12.)"""

    async def enter(self) -> Value:
        """Returns what is open in this loop, opening it if need be. Raises: what opening raises."""
        loop = asyncio.get_running_loop()
        for known in list(self._places):
            if known.is_closed():  # it ended, and nobody left
                self._places.pop(known, None)
        place = self.last = self._places.setdefault(loop, Place(loop))
        try:
            return await place.enter(self._opens)
        finally:
            self._forget(place)

    async def leave(self) -> bool:
        """Leaves what was entered in this loop; returns False if nothing was."""
        place = self._places.get(asyncio.get_running_loop())
        if place is None or not place.entered:
            return False
        try:
            await place.leave()
        finally:
            self._forget(place)
        return True

    def here(self) -> Value | None:
        """Returns what is open in this loop, or None."""
        last = self.last
        if last is not None and last.thread == get_ident() and last.loop.is_running():
            return last.value
        try:
            place = self._places.get(asyncio.get_running_loop())
        except RuntimeError:
            return None
        return None if place is None else place.value

    def elsewhere(self) -> Value | None:
        """Returns what is open in any loop that has not ended, or None."""
        places = list(self._places.values())
        values = (place.value for place in places if not place.loop.is_closed())
        return next((value for value in values if value is not None), None)

    def forget(self) -> None:
        """Forgets all that is open, because it belongs to another process."""
        self._places.clear()
        self.last = None

    @property
    def anywhere(self) -> bool:
        """Whether it is open in any loop."""
        return any(not loop.is_closed() for loop in list(self._places))

    def _forget(self, place: Place[Value]) -> None:
        if not place.entered and not place.one_by_one.locked():
            self._places.pop(place.loop, None)
            if self.last is place:
                self.last = next(iter(list(self._places.values())), None)

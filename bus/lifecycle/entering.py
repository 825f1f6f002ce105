"""Entering: what is opened once in each event loop, however often it is entered there.

Its futures, tasks and connections are of one loop; another loop gets others.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from threading import get_ident
from typing import Generic, TypeVar

Value = TypeVar("Value")
Opens = Callable[[], AbstractAsyncContextManager[Value]]


class Place(Generic[Value]):
    """What is open in one loop, and for how many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = get_ident()
        self.entered = 0
        self.one_by_one = asyncio.Lock()
        self.value: Value | None = None
        self.context: AbstractAsyncContextManager[Value] | None = None

    async def enter(self, opens: Opens[Value]) -> Value:
        """Opens it, if nobody has. Who comes meanwhile waits, and tries again what has failed."""
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
        """Closes it, if all have left. Who comes meanwhile waits, and opens it anew."""
        self.entered -= 1
        if self.entered:
            return
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
        """Where it was entered last. A thread runs one loop at a time: where this is its thread,
        and its loop runs, it is here. (Asking for the loop is a system call before Python 3.12.)"""

    async def enter(self) -> Value:
        """What is open in this loop. Raises: whatever opening it does."""
        loop = asyncio.get_running_loop()
        for one in list(self._places):
            if one.is_closed():  # it ended, and nobody left
                self._places.pop(one, None)
        place = self.last = self._places.setdefault(loop, Place(loop))
        try:
            return await place.enter(self._opens)
        finally:
            self._forget(place)

    async def leave(self) -> bool:
        """Leaves what was entered in this loop; False where nothing was."""
        place = self._places.get(asyncio.get_running_loop())
        if place is None or not place.entered:
            return False
        try:
            await place.leave()
        finally:
            self._forget(place)
        return True

    def here(self) -> Value | None:
        """What is open in this loop."""
        last = self.last
        if last is not None and last.thread == get_ident() and last.loop.is_running():
            return last.value
        try:
            place = self._places.get(asyncio.get_running_loop())
        except RuntimeError:
            return None
        return None if place is None else place.value

    def elsewhere(self) -> Value | None:
        """What is open in some loop that has not ended."""
        values = (one.value for one in list(self._places.values()) if not one.loop.is_closed())
        return next((value for value in values if value is not None), None)

    def forget(self) -> None:
        """Forgets all that is open: it is another process's."""
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

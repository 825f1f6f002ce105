"""Tasks: running them side by side, ending them, and limits of time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context, ContextVar
from threading import get_ident
from types import TracebackType
from typing import Any, Generic, TypeVar

from bus.common import clock

Item = TypeVar("Item")
Result = TypeVar("Result")


entering: Callable[[bool], object] | None = None
"""Called in the context of each task that the bus starts, before the task begins, with whether a
service's own code runs in it. Traces set it, so that nobody takes such work for part of one."""


def own_context(context: Context, *, of_service: bool = False) -> Context:
    """Returns the context as one of a task that the bus starts for itself, or for a duty
    `of_service`."""
    if entering is not None:
        context.run(entering, of_service)
    return context


def apart(work: Coroutine[Any, Any, Result], *, name: str | None = None) -> "asyncio.Task[Result]":
    """Starts a task in a context of its own, for work that others than its caller wait for.

    A deadline of PyMongo's, say, or a time limit is of that caller alone.
    """
    return asyncio.create_task(work, name=name, context=own_context(Context()))


async def end(tasks: Iterable["asyncio.Task[Any]"], *, patience: float = 5.0) -> None:
    """Cancels tasks and waits for their end; cancels again after every `patience` (seconds).

    Once is not enough: drivers sometimes lose a cancellation.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=patience)


class Lanes(Generic[Item]):
    """`concurrency` long-lived runners; items of the same key are worked on one after the other."""

    def __init__(
        self,
        concurrency: int,
        work: Callable[[Item], Awaitable[None]],
        failed: Callable[[Exception], Awaitable[None]],
    ) -> None:
        """`failed` is called with what ended a runner, which nothing should."""
        self._work = work
        self._failed = failed
        self._waiting: dict[str, deque[Item]] = {}
        self._ready: asyncio.Queue[str | None] = asyncio.Queue()
        self._runners = [asyncio.create_task(self._keep_on()) for _ in range(concurrency)]

    def put(self, key: str, item: Item) -> None:
        if key in self._waiting:
            self._waiting[key].append(item)
        else:
            self._waiting[key] = deque([item])
            self._ready.put_nowait(key)

    async def stop(self, timeout: float) -> None:
        """Finishes the items in work, and cancels them after `timeout` seconds. Drops the rest."""
        while not self._ready.empty():
            self._ready.get_nowait()
        for _ in self._runners:
            self._ready.put_nowait(None)
        try:
            await asyncio.wait(self._runners, timeout=timeout)
        finally:  # also if `stop` itself was cancelled
            await end(self._runners)

    async def _keep_on(self) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            if clock.is_cancelled():
                raise
            await self._failed(RuntimeError("something that it awaited was cancelled"))
        except Exception as error:
            await self._failed(error)

    async def _run(self) -> None:
        while (key := await self._ready.get()) is not None:
            waiting = self._waiting[key]
            await self._work(waiting.popleft())
            if waiting:
                self._ready.put_nowait(key)
            else:
                del self._waiting[key]


class Home:
    """The event loop that something was made in: its futures may be settled only there."""

    __slots__ = ("_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()

    @property
    def is_gone(self) -> bool:
        """Whether the loop has ended."""
        return self._loop.is_closed()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function in the loop: at once if it is this thread's; not at all if it ended."""
        if self._loop.is_closed():
            return
        if self._thread == get_ident():
            function(*arguments)
        else:
            with suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(function, *arguments)


SLICE = 0.5


class TurningTime:
    """An `asyncio.timeout` that counts only time in which the loop turned.

        async with TurningTime(3.0): ...

    While something blocks the loop, no task can get on, so that time does not count. It counts in
    slices, each by its length at most; and if the loop was blocked at the very end, one slice more
    lets it take in what arrived meanwhile. With `spares_waits`, a slice spent entirely in waiting
    for somebody else (`OthersTime`) does not count either.
    """

    __slots__ = (
        "_beginning",
        "_cancelling",
        "_due",
        "_left",
        "_loop",
        "_spared",
        "_spares_waits",
        "_task",
        "_timer",
        "_token",
        "_waiting_since",
        "_waits",
        "expired",
    )

    def __init__(self, seconds: float, *, spares_waits: bool = False) -> None:
        self._left = seconds
        self._spared = False
        self._spares_waits = spares_waits
        self._waits = 0
        self.expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        if self._spares_waits:
            self._token = _sparing.set(self)
        self._timer: asyncio.TimerHandle | None = None
        self._begin_slice()
        self._beginning = _beginning(self._loop)
        if self._left > SLICE:
            self._beginning.add(self)
        else:
            self.watch()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is None:
            self._beginning.discard(self)
        else:
            self._timer.cancel()
        if self._spares_waits:
            _sparing.reset(self._token)
        if not self.expired or self._task.uncancel() > self._cancelling:
            return
        if isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def begin_wait(self) -> None:
        """Begins waiting for somebody else, until `end_wait`; waits may overlap."""
        if not self._waits:
            self._waiting_since = self._loop.time()
        self._waits += 1

    def end_wait(self) -> None:
        """Ends one wait."""
        self._waits -= 1

    def watch(self) -> None:
        """Sets a timer for the end of the slice."""
        self._timer = self._loop.call_at(self._due, self._count)

    def _begin_slice(self) -> None:
        self._due = self._loop.time() + min(self._left, SLICE)

    def _wait(self) -> None:
        self._begin_slice()
        self.watch()

    def _count(self) -> None:
        if self._waits and self._loop.time() - self._waiting_since >= SLICE:
            self._wait()
            return
        self._left -= SLICE
        stood = self._loop.time() - self._due > SLICE
        if self._left <= 0 and stood and not self._spared:
            self._spared, self._left = True, SLICE
        if self._left > 0:
            self._wait()
        else:
            self.expired = True
            self._task.cancel()


class _Beginning:
    """The limits of a loop that began within the last slice.

    Nearly all of them end within it, and a timer costs more than the rest of a limit: so one timer
    for all finds those that are left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._limits: set[TurningTime] = set()
        self._looking = False
        self.discard = self._limits.discard

    def add(self, limit: TurningTime) -> None:
        self._limits.add(limit)
        if not self._looking:
            self._looking = True
            self.loop.call_later(SLICE, self._look, context=Context())  # as `apart`, for all

    def _look(self) -> None:
        self._looking = False
        while self._limits:
            self._limits.pop().watch()


def _beginning(loop: asyncio.AbstractEventLoop) -> _Beginning:
    global _latest
    latest = _latest  # read once: another thread's loop may replace it at any moment
    if latest is None or latest.loop is not loop:
        latest = _latest = _Beginning(loop)
    return latest


_latest: _Beginning | None = None
_sparing: ContextVar[TurningTime | None] = ContextVar("sparing", default=None)


class OthersTime:
    """Time spent waiting for somebody who has a time limit of their own.

    with OthersTime(): ...
    """

    __slots__ = ("_limit",)

    def __enter__(self) -> None:
        self._limit = _sparing.get()
        if self._limit:
            self._limit.begin_wait()

    def __exit__(self, *_: object) -> None:
        if self._limit:
            self._limit.end_wait()


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs coroutines side by side; the first error ends the others and is raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(tasks)

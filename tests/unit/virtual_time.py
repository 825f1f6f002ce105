"""A loop whose time is its own: whoever sleeps is woken at once, in the right order."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bus.testing.clock import START, HeldTime, ambient_source


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, it moves the time to when waiting would be over."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits, and nobody for a time")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """For what needs no other process."""

    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now

    def stand(self, seconds: float) -> None:
        """As if something blocked it."""
        self._own.now += seconds


class _Clock(HeldTime):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def seconds(self) -> float:
        return START + self._loop.time()


@contextmanager
def _held(loop: VirtualLoop) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, ambient_source(_Clock(loop)):
        patch.setattr(time, "monotonic", loop.time)
        yield


def run_in_no_time(
    main: Callable[[VirtualLoop], Coroutine[Any, Any, None]],
) -> None:
    """Runs it on a loop of its own. Nothing that took hours takes more than its work."""
    loop = VirtualLoop()
    with _held(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop))

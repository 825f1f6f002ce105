"""Time that loops move on by themselves: whoever sleeps is woken at once, in the right order."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bus.testing.clock import START, HeldTime, ambient_source

BEGIN = 1000.0


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, it moves the time to when waiting would be over."""

    now = BEGIN
    """One time for all loops, so that what one loop leaves comes due in the next."""

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits, and nobody for a time")
        _Selector.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """For what needs no other process and no thread."""

    def __init__(self) -> None:
        super().__init__(_Selector())

    def time(self) -> float:
        return _Selector.now


def stand(seconds: float) -> None:
    """As if something blocked the loop."""
    _Selector.now += seconds


class _Clock(HeldTime):
    def seconds(self) -> float:
        return START + _Selector.now


@contextmanager
def virtual_time() -> Iterator[None]:
    """The clocks of this process show the time of its loops, which begins anew."""
    _Selector.now = BEGIN
    with pytest.MonkeyPatch.context() as patch, ambient_source(_Clock()):
        patch.setattr(time, "monotonic", lambda: _Selector.now)
        yield


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, on a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def run_in_no_time(main: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    """Runs it on a loop of its own. Nothing that took hours takes more than its work."""
    loop = VirtualLoop()
    with virtual_time(), asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop))

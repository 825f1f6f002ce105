"""What a side measures of itself. Runs in the peers' environment too: the standard library alone.

CPU is that of the measured time only: neither start-up nor what was prepared beforehand counts.
"""

import asyncio
import time
from types import TracebackType
from typing import Self

from bench.side import Metrics


class Clock:
    """Time and this process' CPU while it runs; to be entered, or started and stopped."""

    seconds = cpu_seconds = 0.0

    def start(self) -> None:
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu_seconds = time.process_time() - self._cpu_began

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def metrics(self, count: int) -> Metrics:
        """What it says of so many operations."""
        return {
            "per_second": count / self.seconds,
            "client_cpu_ms": self.cpu_seconds * 1000 / count,
        }


class Handled:
    """Counts down what is still to be handled; its clock runs from the first one to the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.clock = Clock()
        self._begun = False
        self._over = asyncio.Event()

    def begin(self) -> None:
        """The first message is there."""
        if not self._begun:
            self._begun = True
            self.clock.start()

    def __call__(self) -> None:
        """One more was handled."""
        self.begin()
        self.left -= 1
        if self.left == 0:
            self.clock.stop()
            self._over.set()

    async def all(self, within: float = 90.0) -> None:
        """Waits for the last one. Raises: SystemExit, which says how many are missing."""
        try:
            async with asyncio.timeout(within):
                await self._over.wait()
        except TimeoutError:
            raise SystemExit(f"after {within:.0f} s {self.left} are not handled") from None

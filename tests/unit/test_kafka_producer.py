"""A producer that is given up ends, whatever its requests wait for."""

import asyncio
from typing import Any, cast

from bus.kafka.outlet import _ended


class Stuck:
    """Waits for an answer that does not come, also once its connections are closed."""

    def __init__(self) -> None:
        self.client = self
        self._message_accumulator = Accumulator()
        self.is_closed = False
        self.was_cancelled = False

    async def stop(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    async def close(self) -> None:
        self.is_closed = True


class Accumulator:
    """Holds nothing."""

    def __init__(self) -> None:
        self._batches: dict[str, list[Any]] = {}
        self._pending_batches: set[Any] = set()

    def fail_all(self, error: Exception) -> None:
        self.failure = error


async def test_a_request_that_never_ends_keeps_no_producer_from_ending() -> None:
    producer = Stuck()
    async with asyncio.timeout(60):
        await _ended(cast(Any, producer))
    assert producer.is_closed
    assert producer.was_cancelled

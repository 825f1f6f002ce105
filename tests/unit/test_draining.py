"""A queue that does not become empty is given up with a remedy, and not waited for for ever."""

import asyncio
from functools import partial
from typing import Any

import pytest

from bus.errors import TransportUnavailable
from bus.transports.rabbitmq.moving import draining
from bus.transports.rabbitmq.moving.draining import drain, put_all
from tests.unit.faking_broker import FakeBroker, FakeQueue


class Alarmed(FakeBroker):
    """Confirms nothing, as a broker without memory or disk."""

    async def basic_publish(self, body: bytes, exchange: str, routing_key: str, **_: Any) -> None:
        await asyncio.Event().wait()


async def test_a_broker_that_confirms_nothing_ends_it_and_nothing_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "STALLED", 0.1)
    broker: Any = Alarmed(old=FakeQueue("a"), new=FakeQueue())
    put = partial(put_all, address=lambda message: ("", "new"))
    async with asyncio.timeout(60):
        with pytest.raises(TransportUnavailable, match=r"old is not emptied.*diagnostics alarms"):
            await drain(broker, "old", put)
    assert ("ack", "1") not in broker.calls

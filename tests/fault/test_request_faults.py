"""What the network does to requests: the wire is cut, or goes silent, while a reply is awaited."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from bus import Bus, OutcomeUnknown, Settings, TransportUnavailable, Worker
from tests.service.test_requests import DAY, Book, Desk, bookings, build
from tests.waiting import patience, until
from tools.faults import Proxy


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(amqp_url) as proxy:
        yield proxy


@pytest.fixture
async def bus(proxy: Proxy, real_settings: Settings, unique: str, desk: Desk) -> AsyncIterator[Bus]:
    """The requester's: between it and the broker stands the proxy; its worker goes past it."""
    through = Settings(
        amqp_url=proxy.url, mongo_url=real_settings.mongo_url, mongo_db=real_settings.mongo_db
    )
    async with (
        build(real_settings, unique, desk) as elsewhere,
        Worker(elsewhere),
        build(through, unique, desk) as bus,
    ):
        yield bus


async def request_until_back(bus: Bus, id: str) -> object:
    while True:
        try:
            return (await bus.request(Book(room_id="r1", day=DAY), id=id, timeout=5)).versions
        except (OutcomeUnknown, TransportUnavailable):
            await asyncio.sleep(0.02)


async def test_a_cut_while_a_reply_is_awaited_is_told_at_once_and_a_repeat_gets_the_receipt(
    bus: Bus, proxy: Proxy, desk: Desk
) -> None:
    for number in range(1, 6):
        desk.open.clear()
        asking = asyncio.create_task(bus.request(Book(room_id="r1", day=DAY), id=f"b{number}"))
        await until(partial(desk.tries.get, f"b{number}"), "the handler is at work")
        proxy.cut()
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="connection was lost") as raised:
            await asking
        assert time.monotonic() - began < 10 * patience()
        desk.open.set()
        async with asyncio.timeout(30 * patience()):
            assert await request_until_back(bus, raised.value.id) == {"room-r1": number}
    assert await bookings(bus) == 5
    assert set(desk.tries.values()) == {1}


async def test_a_silent_broker_ends_a_request_in_time(bus: Bus, proxy: Proxy, desk: Desk) -> None:
    proxy.half_open()
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="id='b1'"):
        await bus.request(Book(room_id="r1", day=DAY), id="b1", timeout=0.3)
    assert time.monotonic() - began < 5 * patience()
    proxy.cut()
    async with asyncio.timeout(30 * patience()):
        assert await request_until_back(bus, "b1") == {"room-r1": 1}
    assert await bookings(bus) == 1

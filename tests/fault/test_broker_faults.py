"""What a whole service comes through while its broker, or the wire to it, fails under load.

Every test ends in the same: each payment that was accepted shows once, in order, and was handled.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from bus import Bus, Settings, Worker
from tests.fault.conftest import Recovered
from tests.fault.load import Payments
from tests.leaks import nothing_left
from tests.service.wallet import Diary, build
from tests.waiting import until
from tools.faults import Proxy, Towards
from tools.services import RabbitMQNode

HEARTBEAT = 2
YOUNG = 2.0  # seconds: a quorum queue younger than that may not survive its only broker


@pytest.fixture
async def proxy(broker: RabbitMQNode) -> AsyncIterator[Proxy]:
    async with Proxy(broker.url) as proxy:
        yield proxy


@asynccontextmanager
async def paying(
    settings: Settings, amqp_url: str, service: str, diary: Diary | None = None, **more: object
) -> AsyncIterator[tuple[Bus, Payments]]:
    """A service with its worker, and payments that flow; afterwards each must have come through."""
    diary = diary or Diary()
    chosen = {"amqp_url": amqp_url, "heartbeat": HEARTBEAT, **more}
    settings = settings.model_copy(update=chosen)
    async with (
        nothing_left(amqp_url, settings.mongo_url),
        build(settings, diary, service) as bus,
        Worker(bus),
    ):
        payments = Payments(bus, diary)
        async with payments.flowing():
            yield bus, payments
        await payments.expect_each_once()


def reached(proxy: Proxy, cuts: int) -> bool:
    return proxy.cuts >= cuts


# -- the broker


async def test_a_killed_broker(
    broker: RabbitMQNode, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, broker.url, unique) as (_, payments):
        await asyncio.sleep(YOUNG)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        recovered("a killed broker, from when it is up", await payments.recovery(20), 4)


async def test_a_broker_stopped_cleanly(
    broker: RabbitMQNode, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, broker.url, unique) as (_, payments):
        await asyncio.sleep(YOUNG)
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        recovered("a stopped broker, from when it is up", await payments.recovery(20), 4)


async def test_a_frozen_broker(
    broker: RabbitMQNode, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, broker.url, unique) as (_, payments):
        broker.pause()
        try:
            await asyncio.sleep(2 * HEARTBEAT)  # noticed or not: either must do
        finally:
            broker.resume()
        recovered("a frozen broker, from when it goes on", await payments.recovery(20), 5)


async def test_a_broker_out_of_memory(
    broker: RabbitMQNode, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, broker.url, unique) as (bus, payments):
        watermark = "set_vm_memory_high_watermark"
        try:
            await asyncio.to_thread(broker.control, watermark, "0.0001")
            await until(lambda: not bus.runtime.transport.healthy, "the alarm is known")
            before = payments.paid.total()
            await until(lambda: payments.paid.total() > before + 20, "payments are accepted")
        finally:
            await asyncio.to_thread(broker.control, watermark, "0.4")
        recovered("an alarm, from when it is over", await payments.recovery(20), 5)


async def test_connections_closed_by_the_broker_again_and_again(
    broker: RabbitMQNode, real_settings: Settings, unique: str
) -> None:
    async with paying(real_settings, broker.url, unique) as (_, payments):
        for _ in range(2):
            await asyncio.to_thread(broker.control, "close_all_connections", "a test")
            await payments.recovery(within=30)


# -- the wire


async def test_a_cut_wire(
    proxy: Proxy, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, proxy.url, unique) as (_, payments):
        times = []
        for _ in range(5):
            assert proxy.cut() >= 2
            times.append(await payments.recovery(within=30))
        recovered("a cut wire", max(times), 5)


@pytest.mark.parametrize("seed", [1])
async def test_a_wire_cut_at_any_byte(
    proxy: Proxy, real_settings: Settings, unique: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with paying(real_settings, proxy.url, unique):
        for _ in range(10):
            cuts = proxy.cuts + 1
            proxy.cut_after(chance.randrange(1, 20_000), chance.choice([*Towards]))
            await until(partial(reached, proxy, cuts), "so much to pass", within=20)


async def test_half_open_connections(
    proxy: Proxy, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, proxy.url, unique) as (_, payments):
        assert proxy.half_open() >= 2
        recovered(f"half-open, heartbeat {HEARTBEAT}", await payments.recovery(30), 9)


async def test_a_broker_that_accepts_and_says_nothing(
    proxy: Proxy, real_settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(real_settings, proxy.url, unique) as (_, payments):
        proxy.mute = True
        proxy.cut()
        await until(lambda: proxy.connections >= 2, "it is tried again")
        proxy.mute = False
        recovered("a silent hand-shake", await payments.recovery(30), 10)


async def test_a_slow_wire(proxy: Proxy, real_settings: Settings, unique: str) -> None:
    async with paying(real_settings, proxy.url, unique) as (_, payments):
        proxy.delay = 0.05
        await payments.recovery(within=30)
        proxy.delay = 0.0

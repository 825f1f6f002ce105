"""RabbitMQ away, killed and restarted, and processes that die between storing and publishing."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from bus import Bus, Receipt, Settings, Worker
from bus.common import clock
from bus.write.relay import Relay
from tests.fault.conftest import Recovered
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import patience, until
from tools.services import RabbitMQNode

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(real_settings: Settings, broker: RabbitMQNode) -> Settings:
    return real_settings.model_copy(update={"amqp_url": broker.url})


async def visible(bus: Bus, receipts: list[Receipt], within: float) -> None:
    """Waits until every receipt's wallet shows it: so many seconds, longer on a busy machine."""
    for receipt in receipts:
        (stream,) = receipt.versions
        query = GetWallet(wallet_id=stream.partition("-")[2])
        assert await bus.query(query, after=receipt, timeout=within * patience())


async def test_commands_succeed_while_rabbitmq_is_down_and_their_events_go_out_later(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    async with build(settings, Diary(), unique) as bus, Worker(bus):
        await visible(bus, [await bus.execute(Pay(wallet_id="before", amount=1))], 30)
        await asyncio.sleep(2)  # younger quorum queues can be lost by a single node's crash
        await asyncio.to_thread(broker.kill)
        started = time.monotonic()
        receipts = [await bus.execute(Pay(wallet_id=f"w{n}", amount=1)) for n in range(100)]
        assert time.monotonic() - started < 10 * patience()
        assert len(await bus.runtime.event_log.pending(clock.now(), 1000)) == 100
        await asyncio.to_thread(broker.start)
        await visible(bus, receipts, 30)
        pending = bus.runtime.event_log.pending
        await until(lambda: _empty(pending(clock.now(), 1000)), "marks still pending", within=20)


async def test_a_broker_restarted_twice_under_load_loses_and_repeats_nothing(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    async with build(settings, Diary(), unique) as bus, Worker(bus):
        await asyncio.sleep(2)
        receipts: list[Receipt] = []
        stop = asyncio.Event()

        async def client(number: int) -> None:
            while not stop.is_set():
                receipts.append(await bus.execute(Pay(wallet_id=f"w{number}", amount=1)))
                await asyncio.sleep(0.005)

        clients = [asyncio.create_task(client(number)) for number in range(10)]
        for _ in range(2):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*clients)
        last = {str(r.versions): r for r in receipts}
        await visible(bus, list(last.values()), 60)
        for number in range(10):
            paid = sum(f"wallet-w{number}" in receipt.versions for receipt in receipts)
            wallet = await bus.query(GetWallet(wallet_id=f"w{number}"))
            assert wallet is not None
            assert wallet.total == paid


async def test_a_service_starts_and_works_while_rabbitmq_is_down(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    await asyncio.to_thread(broker.stop)
    async with build(settings, Diary(), unique) as bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        await asyncio.to_thread(broker.start)
        await visible(bus, [receipt], 30)


CRASH = """
import asyncio, os, signal, sys
from bus import Settings
from tests.service.wallet import Diary, Pay, build

async def main():
    async with build(Settings(), Diary(), sys.argv[1]) as bus:
        async def crash(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)
        bus.runtime.transport.publish = crash
        await bus.execute(Pay(wallet_id="a", amount=7), id="k1")
        await asyncio.sleep(30)

asyncio.run(main())
"""


CRASH_IN_A_TRANSACTION = """
import asyncio, os, signal, sys
from bus import Settings, Worker
from bus.stores.mongo import transactions
from tests.service.wallet import Diary, build

async def main():
    async def crash(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    transactions._commit = crash
    async with build(Settings(), Diary(), sys.argv[1]) as bus, Worker(bus, only=["wallets"]):
        await asyncio.sleep(30)

asyncio.run(main())
"""


async def crashed(program: str, settings: Settings, service: str) -> None:
    """Runs a program that kills itself."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, service, env=environment
    )
    async with asyncio.timeout(30 * patience()):
        assert await process.wait() == -signal.SIGKILL


async def test_a_worker_killed_in_a_transaction_holds_up_its_successor_for_no_time(
    broker: RabbitMQNode, settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with build(settings, Diary(), unique) as bus:
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        await crashed(CRASH_IN_A_TRANSACTION, settings, unique)
        started = time.monotonic()
        async with Worker(bus, only=["wallets"]):
            await visible(bus, [receipt], 30)
            recovered("a kill in a transaction", time.monotonic() - started, 5)


async def test_a_process_killed_between_storing_and_publishing_leaves_it_to_the_relay(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    await crashed(CRASH, settings, unique)
    async with build(settings, Diary(), unique) as bus:
        (commit,) = await bus.runtime.event_log.pending(clock.now(), 10)
        assert commit.id == "k1"
        relay = Relay(bus.runtime.event_log, bus.runtime.publisher, bus.runtime.control)
        await until(relay.relay_once, "the relay to publish", within=30)
        assert await bus.runtime.event_log.pending(clock.now(), 10) == []
        async with Worker(bus, only=["wallets"]):
            await visible(bus, [Receipt("k1", {"wallet-a": 1})], 30)


async def _empty(found: object) -> bool:
    return not await found  # type: ignore[misc]

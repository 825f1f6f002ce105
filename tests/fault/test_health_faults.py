"""Health during outages: the truth within seconds, and everything back by itself.

One worker process lives through all of it, and beside it a bus that only executes commands.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from bus import Bus, Health, Settings, Worker
from bus.cli.checking import ask_worker
from bus.transports.rabbitmq import RabbitTransport
from tests.fault.swallowing import Swallowing
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import patience, until
from tools.services import MongoNode, RabbitMQNode
from tools.services.ports import free_ports

ROOT = Path(__file__).parents[2]
SERVICE = "healthy"
SOON, LATER = 6.0, 20.0
PAST = {"event loop"}

Report = dict[str, Any]


@pytest.fixture(scope="module")
def settings(broker_of_module: RabbitMQNode, database_of_module: MongoNode) -> Settings:
    (port,) = free_ports(1)
    urls = {"amqp_url": broker_of_module.url, "mongo_url": database_of_module.url}
    return Settings(**urls, health_port=port)


def variables(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_HEALTH_PORT": str(settings.health_port),
        "WALLET_SERVICE": SERVICE,
        "PYTHONPATH": str(ROOT),
    }


def command(*options: str) -> list[str]:
    target = "tests.end_to_end.wallet_service:build"
    return [sys.executable, "-m", "bus", "worker", target, *options]


@pytest.fixture(scope="module")
def process(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """The worker, started once: each test leaves it ready."""
    with (tmp_path_factory.mktemp("worker") / "log").open("wb") as log:
        process = subprocess.Popen(command(), env=variables(settings), stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
async def bus(
    process: subprocess.Popen[bytes], settings: Settings, broker: RabbitMQNode, database: MongoNode
) -> AsyncIterator[Bus]:
    """A bus that executes commands, beside the worker; both well."""
    async with build(settings, Diary(), SERVICE) as bus:
        await well(bus, settings)
        yield bus


async def asked(settings: Settings) -> Report:
    return await asyncio.to_thread(ask_worker, settings)


async def worker_says(
    settings: Settings, expected: Callable[[Report], bool], missing: str, within: float = SOON
) -> None:
    last: Report = {}

    async def said() -> bool:
        nonlocal last
        last = await asked(settings)
        return expected(last)

    try:
        await until(said, missing, within=within)
    except AssertionError as error:
        raise AssertionError(f"{error}; it last said {last}") from None


async def bus_says(
    bus: Bus, expected: Callable[[Health], bool], missing: str, within: float = SOON
) -> None:
    last = Health(True, True)

    async def said() -> bool:
        nonlocal last
        last = await bus.health()
        return expected(last)

    try:
        await until(said, missing, within=within)
    except AssertionError as error:
        raise AssertionError(f"{error}; it last said {last}") from None


async def well(bus: Bus, settings: Settings) -> None:
    """Both know of no problem, unless it is over."""
    nothing = "problems remain"
    await worker_says(settings, lambda r: r["ready"] and parts(r) <= PAST, nothing, LATER)
    await bus_says(bus, is_well, nothing, LATER)


def is_well(health: Health) -> bool:
    return health.ready and health.alive and {one.part for one in health.problems} <= PAST


def parts(report: Report) -> set[str]:
    return {problem["part"] for problem in report["problems"]}


def knows(health: Health, part: str, what: str = "") -> bool:
    return any(one.part == part and what in one.what for one in health.problems)


def lost_its_queues(report: Report) -> bool:
    """Alive, but not ready: the broker and each of the three queues do not answer."""
    queues = {part for part in parts(report) if part.startswith("queue ")}
    return report["alive"] and not report["ready"] and "broker" in parts(report) and len(queues) > 2


async def test_while_rabbitmq_is_stopped_a_worker_is_not_ready_and_commands_are(
    bus: Bus, settings: Settings, broker: RabbitMQNode
) -> None:
    await asyncio.sleep(2)  # younger quorum queues can be lost by a single node's crash
    await asyncio.to_thread(broker.kill)
    await worker_says(settings, lost_its_queues, "the worker knows that RabbitMQ is gone")
    await bus_says(bus, lambda h: h.ready and knows(h, "broker"), "the bus knows, and is ready")
    receipt = await bus.execute(Pay(wallet_id="stopped", amount=1))
    await asyncio.to_thread(broker.start)
    await well(bus, settings)
    assert await bus.query(GetWallet(wallet_id="stopped"), after=receipt, timeout=LATER)


async def test_while_rabbitmq_is_frozen_a_worker_is_not_ready(
    bus: Bus, settings: Settings, broker: RabbitMQNode
) -> None:
    broker.pause()
    try:
        await worker_says(settings, lost_its_queues, "the worker knows that RabbitMQ is frozen")
        await bus_says(bus, lambda h: h.ready and knows(h, "broker", "no answer"), "the bus knows")
    finally:
        broker.resume()
    await well(bus, settings)


async def test_an_alarm_is_told_and_keeps_nobody_from_working(
    bus: Bus, settings: Settings, broker: RabbitMQNode
) -> None:
    try:
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.00001")
        told = "RabbitMQ accepts no messages: a memory or disk alarm"
        await bus_says(bus, lambda h: h.ready and knows(h, "broker", told), "the bus knows")
        await worker_says(
            settings,
            lambda r: r["ready"] and told in [problem["what"] for problem in r["problems"]],
            "the worker knows",
        )
    finally:
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.4")
    await well(bus, settings)


async def test_a_deleted_queue_is_not_ready_until_it_is_there_again(
    bus: Bus, settings: Settings, broker: RabbitMQNode
) -> None:
    queue = f"{SERVICE}.wallets"
    deleting = asyncio.create_task(asyncio.to_thread(broker.control, "delete_queue", queue))
    await worker_says(
        settings,
        lambda r: r["alive"] and not r["ready"] and parts(r) - PAST == {f"queue {queue}"},
        "the worker knows that its queue is gone",
        LATER,  # most of it is rabbitmqctl's
    )
    await deleting
    await well(bus, settings)
    receipt = await bus.execute(Pay(wallet_id="deleted", amount=1))
    assert await bus.query(GetWallet(wallet_id="deleted"), after=receipt, timeout=LATER)


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_without_mongodb_nobody_is_ready_and_everybody_alive(
    bus: Bus, settings: Settings, database: MongoNode, fault: str
) -> None:
    await asyncio.to_thread(database.kill if fault == "stopped" else database.pause)
    try:
        gone = "the database is gone"
        await bus_says(bus, lambda h: h.alive and not h.ready and knows(h, "database"), gone)
        await worker_says(
            settings, lambda r: r["alive"] and not r["ready"] and "database" in parts(r), gone
        )
    finally:
        await asyncio.to_thread(database.start if fault == "stopped" else database.resume)
    await well(bus, settings)


async def test_while_mongodb_takes_no_writes_nobody_is_ready(
    bus: Bus, settings: Settings, database: MongoNode
) -> None:
    client: AsyncMongoClient[Report] = AsyncMongoClient(database.url)
    block = {"setUserWriteBlockMode": 1, "global": True}
    await client.admin.command(block)
    try:
        told = "writes are blocked"
        await bus_says(bus, lambda h: h.alive and not h.ready and knows(h, "database"), told)
        await worker_says(
            settings, lambda r: r["alive"] and not r["ready"] and "database" in parts(r), told
        )
    finally:
        await client.admin.command({**block, "global": False})
        await client.close()
    await well(bus, settings)


async def test_a_starved_event_loop_is_not_ready_and_told_afterwards(
    bus: Bus, settings: Settings
) -> None:
    paid = 0.0

    async def is_told() -> bool:
        """Blocks it once more where it was over before anybody asked."""
        nonlocal paid
        if time.monotonic() - paid > 10:
            await bus.execute(Pay(wallet_id="starving", amount=1, mood="blocks for long"))
            paid = time.monotonic()
        return not (await asked(settings))["alive"]

    await until(is_told, "the worker answers while it is blocked", within=60)
    await worker_says(
        settings,
        lambda r: r["ready"] and parts(r) == PAST,
        "the worker tells that its loop was blocked",
        LATER,
    )


async def test_a_frozen_worker_does_not_pass_its_check(
    bus: Bus, settings: Settings, process: subprocess.Popen[bytes]
) -> None:
    status, said = await check(settings)
    assert (status, said.partition("\n")[0]) == (0, "ready")
    process.send_signal(signal.SIGSTOP)
    try:
        status, said = await check(settings)
        assert status == 1
        assert said.startswith("not ready\n  worker: no answer at 127.0.0.1:")
    finally:
        process.send_signal(signal.SIGCONT)
    await well(bus, settings)


async def check(settings: Settings) -> tuple[int, str]:
    """`bus worker --check`, as a container's probe would run it."""
    checking = await asyncio.create_subprocess_exec(
        *command("--check"), env=variables(settings), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(LATER * patience()):
        said, _ = await checking.communicate()
    return checking.returncode or 0, said.decode()


async def test_a_consumer_that_the_broker_forgot_without_a_word_is_brought_back(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    async with Swallowing(broker.port) as wire:
        # Health tells of it until the sentinel's next round, so that leaves time to ask.
        through = settings.model_copy(
            update={"amqp_url": wire.url, "health_port": 0, "sentinel_every": 3.0}
        )
        async with build(through, Diary(), unique) as bus, Worker(bus, only=["wallets"]):
            queue = f"{unique}.wallets"
            await bus_says(bus, is_well, "it consumes", LATER)
            forgotten = "the broker knows no consumer of ours"

            async def is_told() -> bool:
                """Has it forgotten once more where the sentinel came first."""
                await forget_consumers(broker, bus, queue)
                health = await bus.health()
                return not health.ready and knows(health, f"queue {queue}", forgotten)

            await until(is_told, forgotten, within=60)
            assert wire.swallowed
            receipt = await bus.execute(Pay(wallet_id="a", amount=1))
            await bus_says(bus, is_well, "it consumes again", LATER)
            assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=LATER)


async def forget_consumers(broker: RabbitMQNode, bus: Bus, queue: str) -> None:
    """Deletes the queue and makes it again: the broker's word on it does not arrive."""
    await asyncio.to_thread(broker.control, "delete_queue", queue)
    other = RabbitTransport([broker.url], service=bus.service)
    await other.open()
    await other.declare(bus.runtime.topology)
    await other.close()

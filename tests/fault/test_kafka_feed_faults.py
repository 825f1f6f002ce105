"""A service fed from Kafka, while its workers are killed and its broker ends: as the fold."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus import Bus, DeadLetters, Settings, Worker
from bus.kafka import KafkaFeed, KafkaTopic
from tests import killing
from tests.databases import drop
from tests.servers import lent
from tests.service.feeding import are_as_folded, reports
from tests.service.sending import Pay, bank
from tests.waiting import patience, until
from tools.faults.proxy import Proxy
from tools.services.jars.kafka import KafkaNode

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def fed_settings(mongo_url: str, amqp_url: str, unique: str) -> AsyncIterator[Settings]:
    """The settings of the service that is fed."""
    name = f"{unique}_fed"
    yield Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=name, gap_within=1.0)
    await drop(mongo_url, name)


@asynccontextmanager
async def running(settings: Settings, service: str, owner: str, url: str) -> AsyncIterator[Process]:
    """A process with a worker, which is killed at the end."""
    environment = {**environment_of(settings), "PYTHONPATH": str(ROOT)}
    words = ["-m", "tests.fault.feeding_worker", service, owner, url]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=environment, stdout=PIPE
    )
    try:
        assert process.stdout
        async with asyncio.timeout(60 * patience()):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        await process.wait()


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
    }


async def pay(bus: Bus, count: int) -> None:
    for amount in range(count):
        await bus.execute(Pay(account_id=f"a{amount % 7}", amount=amount))


@pytest.mark.parametrize("broker", ["amqp", "memory"])
async def test_workers_that_are_killed_and_take_over_from_one_another_lose_nothing(
    real_settings: Settings, fed_settings: Settings, kafka_server: str, unique: str, broker: str
) -> None:
    if broker == "memory":
        fed_settings = fed_settings.model_copy(update={"amqp_url": "memory://"})
    name, sink = f"{unique}_fed", KafkaTopic(unique, url=kafka_server, partitions=3)
    async with bank(real_settings, unique, sink) as owner, Worker(owner):
        await pay(owner, 50)
        async with running(fed_settings, name, unique, kafka_server):
            for _ in range(2):  # each comes, shares the partitions, and is killed in its turn
                async with running(fed_settings, name, unique, kafka_server):
                    await pay(owner, 70)
        await pay(owner, 20)
        feed = KafkaFeed(unique, topic=unique, url=kafka_server)
        async with reports(fed_settings, name, feed) as fed, Worker(fed):
            await until(lambda: are_as_folded(fed, owner), "the fold", within=90)


async def test_a_broker_that_is_killed_only_delays_what_is_fed(
    real_settings: Settings, fed_settings: Settings, kafka_node: KafkaNode, unique: str
) -> None:
    sink = KafkaTopic(unique, url=kafka_node.url, partitions=2)
    feed = KafkaFeed(unique, topic=unique, url=kafka_node.url)
    async with (
        bank(real_settings, unique, sink) as owner,
        reports(fed_settings, f"{unique}_fed", feed) as fed,
        Worker(owner),
        Worker(fed),
    ):
        await pay(owner, 20)
        await until(lambda: are_as_folded(fed, owner), "the first events", within=60)
        kafka_node.kill()
        await pay(owner, 20)
        await asyncio.to_thread(kafka_node.start)
        await until(lambda: are_as_folded(fed, owner), "what waited", within=120)


STEPS = ("before the publishing", "after the publishing", "after the keeping", "after the settling")


@pytest.mark.parametrize("broker", ["amqp", "memory"])
async def test_a_worker_killed_at_any_step_of_being_fed_loses_and_repeats_nothing(
    real_settings: Settings, fed_settings: Settings, kafka_server: str, unique: str, broker: str
) -> None:
    if broker == "memory":
        fed_settings = fed_settings.model_copy(update={"amqp_url": "memory://"})
    sink = KafkaTopic(unique, url=kafka_server, partitions=2)
    names = {step: f"{unique}_{number}" for number, step in enumerate(STEPS)}
    try:
        async with bank(real_settings, unique, sink) as owner, Worker(owner):
            await pay(owner, 30)
            async with asyncio.TaskGroup() as group:
                for step, name in names.items():
                    own = fed_settings.model_copy(update={"mongo_db": name})
                    group.create_task(killed_and_made_good(step, name, own, owner, kafka_server))
    finally:
        await drop(fed_settings.mongo_url, *names.values())


async def killed_and_made_good(
    step: str, name: str, settings: Settings, owner: Bus, url: str
) -> None:
    words = (step, name, owner.service, url)
    environment = environment_of(settings)
    await killing.killed("killed_in_feed", *words, environment=environment, within=60)
    feed = KafkaFeed(owner.service, topic=owner.service, url=url)
    async with reports(settings, name, feed) as fed, Worker(fed):
        await until(lambda: are_as_folded(fed, owner), f"{step}: the fold", within=90)


async def test_a_broker_that_freezes_or_is_cut_off_only_delays_what_is_fed(
    real_settings: Settings, fed_settings: Settings, kafka_kind: type[KafkaNode], tmp_path: Path,
    unique: str,
) -> None:  # fmt: skip
    node = kafka_kind(tmp_path / "kafka")
    async with Proxy(node.url) as wire:
        node.advertised = wire.port
        with lent(node):
            sink = KafkaTopic(unique, url=wire.url, partitions=2)
            feed = KafkaFeed(unique, topic=unique, url=wire.url)
            async with (
                bank(real_settings, unique, sink) as owner,
                reports(fed_settings, f"{unique}_fed", feed) as fed,
                Worker(owner),
                Worker(fed),
            ):

                async def more(count: int, missing: str) -> None:
                    await pay(owner, count)
                    await until(lambda: are_as_folded(fed, owner), missing, within=120)

                await more(20, "the first events")
                node.pause()
                await pay(owner, 20)
                await asyncio.sleep(12)  # longer than a group waits for a member (10 s)
                node.resume()
                await more(5, "what waited while it was frozen")
                for _ in range(5):
                    await pay(owner, 5)
                    wire.cut()
                await more(5, "what waited while it was cut off")
                wire.half_open()
                await more(5, "what waited where nothing passed")
                assert not await DeadLetters(fed).streams()
                assert not await DeadLetters(fed).list()

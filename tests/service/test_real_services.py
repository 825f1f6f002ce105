"""The kit's tests on real servers: the same as in memory, and nothing is left there."""

import os
import subprocess
import sys
from pathlib import Path

import aio_pika
from aio_pika.exceptions import ChannelNotFoundEntity
from pymongo import AsyncMongoClient

from bus import NotBuilt, Settings, Worker
from bus.testing.real import real_services
from bus.transports.rabbitmq.declare import names_of
from bus.transports.topology import Topology
from tests.installed import installed
from tests.project.test_docs import write_files
from tests.service.following_contract import GetPurse, Pay, bank, shop
from tests.waiting import until


async def left(amqp_url: str, topologies: list[Topology]) -> list[str]:
    """Which queues and exchanges of them there are."""
    found = []
    async with await aio_pika.connect(amqp_url) as connection:
        for topology in topologies:
            queues, exchanges = names_of(topology)
            for name in [*queues, *exchanges]:
                channel = connection.channel()
                await channel.initialize()
                try:
                    await (
                        channel.get_queue(name) if name in queues else channel.get_exchange(name)
                    )
                    found.append(name)
                    await channel.close()
                except ChannelNotFoundEntity:
                    pass
    return found


async def databases(mongo_url: str, prefix: str) -> list[str]:
    async with AsyncMongoClient[dict[str, object]](mongo_url) as client:
        return [one for one in await client.list_database_names() if one.startswith(prefix)]


async def test_nothing_is_left_of_services_that_met(
    amqp_url: str, mongo_url: str, unique: str
) -> None:
    with real_services(amqp_url, mongo_url, unique) as settings:
        owner, follower = bank(settings, "bank"), shop(settings, "shop", "bank")
        async with owner, Worker(owner), follower, Worker(follower):
            assert (owner.service, follower.service) == (f"{unique}_bank", f"{unique}_shop")
            await owner.execute(Pay(purse_id="a", amount=1))

            async def shown() -> bool:
                try:
                    found = await follower.query(GetPurse(purse_id="a"))
                except NotBuilt:
                    return False
                return found is not None and found.amounts == [1]

            await until(shown, "the shop shows what was paid")
            topologies = [owner.runtime.topology, follower.runtime.topology]
        assert len(await left(amqp_url, topologies)) > 20
        assert await databases(mongo_url, unique) == [f"{unique}_bank", f"{unique}_shop"]
    assert await left(amqp_url, topologies) == []
    assert await databases(mongo_url, unique) == []


async def test_what_only_a_follower_made_of_its_owner_goes_too(
    amqp_url: str, mongo_url: str, unique: str
) -> None:
    with real_services(amqp_url, mongo_url, unique) as settings:
        async with shop(settings, "shop", "bank") as follower:
            topology = follower.runtime.topology
            assert f"{unique}_bank.events" in await left(amqp_url, [topology])
    assert await left(amqp_url, [topology]) == []


async def test_a_test_that_makes_no_bus_leaves_nothing_either(
    amqp_url: str, mongo_url: str, unique: str
) -> None:
    with real_services(amqp_url, mongo_url, unique) as settings:
        assert settings.named("bank") == f"{unique}_bank"
        assert Settings(amqp_url=amqp_url, mongo_url=mongo_url).named("bank") == "bank"


def test_the_page_of_testing_passes_on_real_services(
    tmp_path: Path, amqp_url: str, mongo_url: str
) -> None:
    write_files("a-service-of-your-own.md", tmp_path)
    write_files("testing.md", tmp_path)
    variables = {"BUS_AMQP_URL": amqp_url, "BUS_MONGO_URL": mongo_url}
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:asyncio", "--bus-services=real"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{installed(tmp_path)}:{tmp_path}", **variables},
        capture_output=True,
        text=True,
    )
    assert "17 passed" in shown.stdout, shown.stdout
    assert "bus services: real" in shown.stdout

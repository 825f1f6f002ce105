"""What a whole service comes through while nodes of a RabbitMQ cluster of three fail under load."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bus import Settings, Worker
from tests.fault.conftest import Recovered
from tests.fault.load import Payments
from tests.leaks import nothing_left
from tests.service.wallet import Diary, build
from tests.waiting import until
from tools.faults import RabbitCluster


@pytest.fixture(scope="module")
def cluster_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitCluster]:
    with RabbitCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(cluster_of_module: RabbitCluster) -> RabbitCluster:
    """All three nodes run, whatever the test before has left."""
    cluster_of_module.start()
    return cluster_of_module


@pytest.fixture
def settings(real_settings: Settings, cluster: RabbitCluster) -> Settings:
    return real_settings.model_copy(update={"amqp_url": cluster.url, "heartbeat": 2})


@asynccontextmanager
async def paying(settings: Settings, service: str) -> AsyncIterator[Payments]:
    """A service with its worker, and payments that flow; afterwards each must have come through."""
    diary = Diary()
    async with (
        nothing_left(settings.amqp_url, settings.mongo_url),
        build(settings, diary, service) as bus,
        Worker(bus),
    ):
        payments = Payments(bus, diary)
        async with payments.flowing():
            yield payments
        await payments.expect_each_once(within=60)


async def test_the_node_that_leads_a_queue_is_killed(
    cluster: RabbitCluster, settings: Settings, unique: str, recovered: Recovered
) -> None:
    queue = f"{unique}.wallets"
    async with paying(settings, unique) as payments:
        leader = await asyncio.to_thread(cluster.leader_of, queue)
        await asyncio.to_thread(leader.kill)
        # A publish that the dead leader was to confirm is given up after its 10 seconds.
        recovered("a killed leader, from the kill", await payments.recovery(30), 15)
        assert await asyncio.to_thread(cluster.leader_of, queue) is not leader
        await asyncio.to_thread(leader.start)
        await asyncio.to_thread(cluster.await_online, queue)


async def test_while_two_of_three_nodes_are_away_publishes_wait(
    cluster: RabbitCluster, settings: Settings, unique: str, recovered: Recovered
) -> None:
    async with paying(settings, unique) as payments:
        first, second, _ = cluster.nodes
        await asyncio.to_thread(first.kill)
        await asyncio.to_thread(second.kill)
        before = payments.paid.total()
        await until(lambda: payments.paid.total() > before + 100, "payments are accepted")
        await asyncio.gather(asyncio.to_thread(first.start), asyncio.to_thread(second.start))
        recovered("a lost majority, from when it is up", await payments.recovery(60), 20)

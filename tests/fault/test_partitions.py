"""What a whole service comes through when the network between it and its broker parts.

The broker lives in a network namespace of the test's own, which takes root.
"""

import asyncio
from collections.abc import Iterator

import pytest

from bus import Settings, Worker
from tests.fault.conftest import Recovered
from tests.fault.load import Payments
from tests.leaks import nothing_left
from tests.servers import lent
from tests.service.wallet import Diary, build
from tools.faults import Namespace
from tools.faults.netns import available
from tools.services import RabbitMQNode


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    if not available():
        pytest.skip("network namespaces need root, iproute2 and a kernel that lets us make them")
    with Namespace() as space:
        yield space


@pytest.fixture(scope="module")
def node(space: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    folder = tmp_path_factory.mktemp("rabbitmq")
    with lent(RabbitMQNode(folder, host=space.address, prefix=space.prefix)) as node:
        yield node


@pytest.mark.parametrize("seconds", [2.0, 9.0], ids=["unnoticed", "noticed"])
async def test_a_network_that_parts_and_heals(
    space: Namespace,
    node: RabbitMQNode,
    real_settings: Settings,
    unique: str,
    seconds: float,
    recovered: Recovered,
) -> None:
    settings = real_settings.model_copy(update={"amqp_url": node.url, "heartbeat": 2})
    diary = Diary()
    async with (
        nothing_left(node.url, settings.mongo_url),
        build(settings, diary, unique) as bus,
        Worker(bus),
    ):
        payments = Payments(bus, diary)
        async with payments.flowing():
            with space.parted():
                before = payments.paid.total()
                await asyncio.sleep(seconds)
                assert payments.paid.total() > before
            fault = f"a partition of {seconds:.0f} s, from when it heals"
            recovered(fault, await payments.recovery(40), 15)
        await payments.expect_each_once()

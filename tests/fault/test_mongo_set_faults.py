"""What a whole service comes through while its MongoDB changes primaries, or the wire tears."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from pymongo import WriteConcern

from bus import Settings, Worker
from bus.stores.base import Commit, Recorded
from bus.stores.mongo import MongoEventLog, close, connect
from bus.stores.records import commit_document
from tests.fault.conftest import Recovered
from tests.fault.load import Payments
from tests.leaks import nothing_left
from tests.service.wallet import Diary, build
from tests.waiting import until
from tools.faults import MongoSet, Proxy, Towards
from tools.faults.mongo_set import directly
from tools.services import MongoNode

TIME = datetime(2026, 1, 2, tzinfo=UTC)

Fault = Callable[[MongoSet], MongoNode]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoSet]:
    with MongoSet(tmp_path_factory.mktemp("mongodb")) as replicas:
        yield replicas


@asynccontextmanager
async def paying(amqp_url: str, mongo_url: str, service: str) -> AsyncIterator[Payments]:
    """A service with its worker, and payments that flow; afterwards each must have come through."""
    settings = Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=service)
    diary = Diary()
    async with (
        nothing_left(amqp_url, mongo_url),
        build(settings, diary, service) as bus,
        Worker(bus),
    ):
        payments = Payments(bus, diary)
        async with payments.flowing():
            yield payments
        await payments.expect_each_once()


def kill(replicas: MongoSet) -> MongoNode:
    primary = replicas.await_primary()
    primary.kill()
    return primary


def freeze(replicas: MongoSet) -> MongoNode:
    primary = replicas.await_primary()
    primary.pause()
    return primary


def nothing(node: MongoNode) -> None:
    """A member that stepped down needs no help."""


FAULTS: dict[str, tuple[Fault, Callable[[MongoNode], None]]] = {
    "killed": (kill, MongoNode.start),
    "stepped down": (MongoSet.step_down, nothing),
    "frozen": (freeze, MongoNode.resume),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_primary_that_fails(
    replicas: MongoSet, amqp_url: str, unique: str, fault: str, recovered: Recovered
) -> None:
    breaking, mending = FAULTS[fault]
    async with paying(amqp_url, replicas.url, unique) as payments:
        before = replicas.await_primary()
        started = time.monotonic()
        recovering = asyncio.create_task(after(breaking, replicas, payments))
        await asyncio.to_thread(replicas.await_primary, before)
        election = time.monotonic() - started
        await recovering
        took = time.monotonic() - started - election
        recovered(f"a primary {fault}, beyond its election", took, 10)
        await asyncio.to_thread(mending, before)
        await payments.recovery(within=20)


async def after(breaking: Fault, replicas: MongoSet, payments: Payments) -> None:
    """Breaks it, and returns when a payment shows again."""
    await asyncio.to_thread(breaking, replicas)
    await payments.recovery(within=30)


async def test_a_primary_decides_by_all_that_it_holds_and_promises_what_a_majority_holds(
    replicas: MongoSet, unique: str
) -> None:
    """So it is after an election: the new primary has it all, and does not know of whom else."""
    client = connect(replicas.url)
    log = MongoEventLog(client, unique)
    await log.open()
    primary = replicas.await_primary()
    others = [node for node in replicas.nodes if node is not primary]
    with following_stopped(others):
        unconfirmed = client[unique]["commits"].with_options(write_concern=WriteConcern(1))
        await unconfirmed.insert_one(commit_document(commit(unique)))
        assert await log.read(f"job-{unique}") == [commit(unique)]
        finding = asyncio.create_task(log.find(unique))
        await asyncio.wait([finding], timeout=1)
        assert not finding.done()
    assert await finding == [commit(unique)]
    await log.close()
    await close(client)


@contextmanager
def following_stopped(nodes: Sequence[MongoNode]) -> Iterator[None]:
    """These members copy nothing meanwhile (a failpoint)."""

    def configure(mode: str) -> None:
        for node in nodes:
            with directly(node, seconds=10) as direct:
                direct.admin.command({"configureFailPoint": "stopReplProducer", "mode": mode})

    configure("alwaysOn")
    try:
        yield
    finally:
        configure("off")


def commit(id: str) -> Commit:
    event = Recorded("JobPosted", 1, {})
    return Commit(id, f"job-{id}", "job", 1, (event,), TIME, id)


@pytest.mark.parametrize("seed", [1])
async def test_a_wire_to_the_database_cut_at_any_byte(
    mongo_url: str, amqp_url: str, unique: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with Proxy(mongo_url) as proxy, paying(amqp_url, proxy.url, unique):
        for _ in range(8):
            cuts = proxy.cuts + 1
            proxy.cut_after(chance.randrange(1, 20_000), chance.choice([*Towards]))
            await until(partial(reached, proxy, cuts), "so much to pass", within=20)


def reached(proxy: Proxy, cuts: int) -> bool:
    return proxy.cuts >= cuts

"""The sentinel against a broker that forgets consumers, and against one that keeps denying them."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from bus import Bus, ConfigurationError, Health, Settings, Worker
from bus.delivery.consumer import consumer_check
from bus.delivery.sentinel import ROUNDS, Sentinel
from bus.errors import TransportUnavailable
from bus.observe.health import Check, Checkup
from bus.testing.contracts.transport_contract import event, numbers, take
from bus.transports.base import Inbox
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.transports.topology import Topology, projection_queues
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import until
from tools.services.ports import free_ports

(QUEUE,) = projection_queues("jobs", "board", ["job"], 1)


class Denying(MemoryTransport):
    """A broker that may deny its consumers, or not answer."""

    denies = silent = False
    ending: Inbox | None = None

    async def consumers(self, queue: str) -> int:
        if self.ending:
            await self.ending.stop()
        if self.silent:
            raise TransportUnavailable("no answer")
        return 0 if self.denies else await super().consumers(queue)


class Consuming:
    """A consumer that only has an inbox."""

    is_last = False
    checks: Sequence[Check] = ()

    def __init__(self, inbox: Inbox) -> None:
        self.queue = inbox.queue
        self.inbox: Inbox | None = inbox
        self.problem: str | None = None
        self.reopened: list[bool] = []
        self._reopen, inbox.reopen = inbox.reopen, self._note  # type: ignore[method-assign]

    async def _note(self, *, connection: bool = False) -> None:
        self.reopened.append(connection)
        await self._reopen(connection=connection)

    async def run(self) -> None: ...

    async def stop(self, timeout: float) -> None: ...


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def transport(broker: MemoryBroker) -> AsyncIterator[Denying]:
    transport = Denying(broker, "jobs")
    await transport.open()
    await transport.declare(Topology("jobs", (QUEUE,)))
    yield transport
    await transport.close()


@pytest.fixture
async def consumer(transport: Denying) -> Consuming:
    return Consuming(await transport.inbox(QUEUE.name, prefetch=10))


@pytest.fixture
def sentinel(transport: Denying, consumer: Consuming) -> Sentinel:
    return Sentinel([consumer], transport, every=0.01)


@pytest.fixture
def checkup(transport: Denying, consumer: Consuming, sentinel: Sentinel) -> Checkup:
    return Checkup([consumer_check(consumer, transport), sentinel.check])


async def test_a_consumer_that_is_known_is_left_alone(
    sentinel: Sentinel, consumer: Consuming, checkup: Checkup
) -> None:
    for _ in range(3):
        await sentinel.look()
    assert consumer.reopened == []
    assert await checkup.health() == Health(True, True)


async def test_a_forgotten_consumer_is_reopened_and_receives_again(
    broker: MemoryBroker,
    transport: Denying,
    sentinel: Sentinel,
    consumer: Consuming,
    checkup: Checkup,
) -> None:
    broker.queue(QUEUE.name).consumers.clear()
    health = await checkup.health()
    assert (health.alive, health.ready) == (True, False)
    assert health.problems[0].what == "the broker knows no consumer of ours"
    await sentinel.look()
    assert consumer.reopened == [False]
    assert await checkup.health() == Health(True, True)
    await transport.publish([event(1)])
    assert consumer.inbox
    assert numbers(await take(consumer.inbox, 1)) == [1]


async def test_messages_that_wait_while_none_arrives_have_their_one_consumer_reopened(
    broker: MemoryBroker, transport: Denying, sentinel: Sentinel, consumer: Consuming
) -> None:
    checkup = Checkup([sentinel.arrivals])
    queue = broker.queue(QUEUE.name)
    held, queue.consumers[:] = list(queue.consumers), []
    await transport.publish([event(1)])
    queue.consumers[:] = held
    await sentinel.look()
    assert consumer.reopened == []
    await sentinel.look()
    assert consumer.reopened == [False]
    assert "none arrives here" in (await checkup.health()).problems[0].what
    assert consumer.inbox
    await consumer.inbox.acknowledge(await take(consumer.inbox, 1))
    await sentinel.look()
    assert await checkup.health() == Health(True, True)


async def test_what_reopening_does_not_mend_needs_a_restart(
    transport: Denying, sentinel: Sentinel, consumer: Consuming, checkup: Checkup
) -> None:
    transport.denies = True
    for round in range(ROUNDS):
        assert (await checkup.health()).alive, round
        await sentinel.look()
    assert consumer.reopened == [False, True, True]
    health = await checkup.health()
    assert not health.alive
    assert (
        health.problems[-1].what == "reopening does not bring back the consumer of "
        f"{consumer.queue}"
    )
    transport.denies = False
    await sentinel.look()
    assert await checkup.health() == Health(True, True)


async def test_a_broker_that_does_not_answer_is_no_mismatch(
    transport: Denying, sentinel: Sentinel, consumer: Consuming, checkup: Checkup
) -> None:
    transport.silent = True
    for _ in range(ROUNDS):
        await sentinel.look()
    assert consumer.reopened == []
    health = await checkup.health()
    assert (health.alive, health.ready) == (True, False)


async def test_an_inbox_that_does_not_consume_yet_is_not_disturbed(
    transport: Denying, sentinel: Sentinel, consumer: Consuming, checkup: Checkup
) -> None:
    assert consumer.inbox
    await consumer.inbox.stop()
    await sentinel.look()
    consumer.inbox = None
    await sentinel.look()
    assert consumer.reopened == []
    assert [p.what for p in (await checkup.health()).problems] == [
        "it is not being consumed just now"
    ]


async def test_an_inbox_that_ends_while_the_broker_is_asked_is_no_mismatch_and_not_ready(
    transport: Denying, consumer: Consuming, checkup: Checkup
) -> None:
    transport.ending = consumer.inbox
    health = await checkup.health()
    assert [p.what for p in health.problems] == ["it is not being consumed just now"]
    assert not health.ready


async def test_an_inbox_that_ends_while_the_sentinel_asks_is_not_disturbed(
    transport: Denying, sentinel: Sentinel, consumer: Consuming
) -> None:
    transport.ending = consumer.inbox
    await sentinel.look()
    assert consumer.reopened == []


async def test_what_a_consumer_says_of_itself_is_told(
    consumer: Consuming, checkup: Checkup
) -> None:
    consumer.problem = "every stream fails (ValueError)"
    health = await checkup.health()
    assert not health.ready
    assert health.problems[0].part == "queue jobs.board"
    assert health.problems[0].what == "every stream fails (ValueError)"


# -- in a worker


@pytest.fixture
def settings() -> Settings:
    return Settings.in_memory(sentinel_every=0.05)


async def test_a_worker_brings_its_consumers_back(settings: Settings, unique: str) -> None:
    async with build(settings, Diary(), unique) as bus, Worker(bus):
        await until(lambda: ready(bus), "the worker is ready")
        queue = bus.runtime.transport._broker.queue(f"{unique}.wallets")  # type: ignore[attr-defined]
        queue.consumers.clear()
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt)
        assert await ready(bus)


async def test_a_worker_that_stops_is_not_ready_and_leaves_no_check_behind(
    settings: Settings, unique: str
) -> None:
    diary = Diary()
    diary.open.clear()
    async with build(settings, diary, unique) as bus:
        async with Worker(bus) as worker:
            await bus.execute(Pay(wallet_id="a", amount=1))
            await until(lambda: diary.running, "the handler runs")
            stopping = asyncio.create_task(worker.stop())
            await until(lambda: not_ready(bus, "worker"), "it says that it is stopping")
            diary.open.set()
            await stopping
        assert await bus.health() == Health(True, True)


async def ready(bus: Bus) -> bool:
    return (await bus.health()).ready


async def not_ready(bus: Bus, part: str) -> bool:
    health = await bus.health()
    return not health.ready and part in [problem.part for problem in health.problems]


async def test_a_port_that_is_taken_is_a_clear_error(unique: str) -> None:
    (port,) = free_ports(1)
    settings = Settings.in_memory(health_port=port)
    async with build(settings, Diary(), unique) as bus, Worker(bus):
        with pytest.raises(
            ConfigurationError, match=f"{port}: .*another worker, a relay or another"
        ):
            await Worker(bus).__aenter__()
        await until(lambda: ready(bus), "the first worker is not disturbed")

"""What becomes of messages while queues are missing, full, wrong, or deliver as they please."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest

from bus import Bus, Envelope, Router, Settings, TopologyMismatch, Unroutable, Worker
from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.testing.contracts.transport_contract import event, take
from bus.transports.base import Delivery, Inbox, Transport
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import DELIVERY_LIMIT, Topology, projection_queues
from tests.fault.conftest import channel_of
from tests.fault.load import Payments
from tests.service.wallet import Diary, Paid, Pay, build, payments
from tests.waiting import until
from tools.services import RabbitMQNode

RETRY_SOON = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 500)."


@pytest.fixture(scope="module", autouse=True)
def dead_letters_are_tried_again_soon(broker_of_module: RabbitMQNode) -> None:
    """By default the broker waits for 180 s to publish again what it could not."""
    broker_of_module.control("eval", RETRY_SOON)


@pytest.fixture
def settings(real_settings: Settings, broker: RabbitMQNode) -> Settings:
    return real_settings.model_copy(update={"amqp_url": broker.url, "sweep_every": 1.0})


@pytest.fixture
async def bus(settings: Settings, unique: str, diary: Diary) -> AsyncIterator[Bus]:
    async with build(settings, diary, unique) as bus:
        yield bus


# -- missing


async def test_events_lost_with_a_deleted_queue_are_healed_from_the_log(
    broker: RabbitMQNode, bus: Bus, diary: Diary, unique: str
) -> None:
    payments = Payments(bus, diary)

    async def consumed() -> bool:
        return await bus.runtime.transport.consumers(f"{unique}.wallets") == 1

    async with Worker(bus), channel_of(broker) as channel:
        async with payments.flowing():
            for _ in range(2):
                await channel.queue_delete(f"{unique}.wallets")
                await payments.recovery(within=30)
                await until(consumed, "the queue is there again, and consumed")
        await payments.expect_each_once()


async def test_a_command_whose_queue_is_missing_is_an_error_or_waits_and_is_never_dropped(
    broker: RabbitMQNode, bus: Bus, diary: Diary, unique: str
) -> None:
    payments = Payments(bus, diary)
    async with channel_of(broker) as channel:
        await channel.queue_delete(f"{unique}.commands")
    with pytest.raises(Unroutable):
        await bus.send(Pay(wallet_id="x", amount=1))
    async with Worker(bus, only=["wallets", "thanking"]):
        await payments.pay("a", mood="grateful")  # whose handler sends a command
        await until(lambda: diary.seen, "the payment is handled")
    await bus.runtime.transport.declare(bus.runtime.topology)
    async with Worker(bus):
        await payments.expect_each_once()


async def test_a_message_over_its_delivery_limit_waits_for_the_target_of_dead_letters(
    broker: RabbitMQNode, unique: str
) -> None:
    queue = projection_queues(unique, "board", ["job"], 1)[0]
    transport = RabbitTransport([broker.url], service=unique)
    await transport.open()
    try:
        await transport.declare(Topology(unique, (queue,)))
        async with channel_of(broker) as channel:
            await channel.queue_delete(f"{unique}.dead")
        inbox = await transport.inbox(queue.name, prefetch=10)
        assert await transport.publish([event(1)]) == {}
        for _ in range(DELIVERY_LIMIT + 1):
            await inbox.reject((await take(inbox, 1))[0])
        await transport.declare(Topology(unique, (queue,)))
        dead = await transport.inbox(f"{unique}.dead", prefetch=10)
        (letter,) = await take(dead, 1)
        assert letter.frame.body == event(1).body
        await dead.acknowledge([letter])
        assert await transport.depth(queue.name) == await transport.depth(f"{unique}.dead") == 0
    finally:
        await transport.close()


# -- full


async def refused(bus: Bus) -> int:
    """How many commits wait in the log, at least so long that nobody is at them just now."""
    waiting = await bus.runtime.event_log.pending(clock.now() - timedelta(seconds=1), 100)
    return len(waiting)


async def test_what_a_full_queue_refuses_waits_in_the_log(
    broker: RabbitMQNode, bus: Bus, diary: Diary, unique: str
) -> None:
    limit = json.dumps({"max-length": 5})
    policy = ("--apply-to", "queues", unique, rf"^{unique}\.wallets$", limit)
    await asyncio.to_thread(broker.control, "set_policy", *policy)
    payments = Payments(bus, diary)
    for number in range(40):
        await payments.pay(f"w{number % 4}")
    await until(partial(refused, bus), "some are refused")
    await asyncio.to_thread(broker.control, "clear_policy", unique)
    async with Worker(bus):
        await payments.expect_each_once()


# -- policies


async def policy(broker: RabbitMQNode, name: str, queues: str, **definition: object) -> None:
    words = ("--apply-to", "queues", name, queues, json.dumps(definition))
    await asyncio.to_thread(broker.control, "set_policy", *words)


@pytest.mark.parametrize(
    ("definition", "error", "told"),
    [
        ({"message-ttl": 100}, "Expired", "message-ttl"),
        ({"max-length": 1, "overflow": "drop-head"}, "QueueTooLong", "max-length"),
    ],
)
async def test_what_a_policy_takes_away_is_told_as_that_and_kept(
    broker: RabbitMQNode,
    bus: Bus,
    diary: Diary,
    unique: str,
    definition: dict[str, object],
    error: str,
    told: str,
) -> None:
    payments = Payments(bus, diary)
    await policy(broker, unique, rf"^{unique}\.thanking$", **definition)
    for _ in range(5):
        await payments.pay("w")

    async def taken() -> int:
        return await bus.runtime.transport.depth(f"{unique}.dead")

    await until(lambda: taken(), "some are taken")

    async def health_tells() -> bool:
        problems = (await bus.health()).problems
        return any(f"wait in {unique}.dead for a worker" in problem.what for problem in problems)

    await until(health_tells, "health tells that nobody takes them")
    async with Worker(bus):

        async def kept() -> bool:
            letters = await bus.runtime.control.dead_letters()
            return {one["error"] for one in letters} == {error}

        await until(kept, f"dead letters of {error}")
        problems = {p.part: p.what for p in (await bus.health()).problems}
        assert told in problems["policies"]
        assert f"{unique}.thanking" in problems["policies"]
    await asyncio.to_thread(broker.control, "clear_policy", unique)


# -- slow


async def test_what_waits_for_a_slow_handler_outlives_the_brokers_patience(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    """consumer_timeout closes the channel of what is not settled in time, and counts it all."""
    impatient = "application:set_env(rabbit, consumer_timeout, {}), " + (
        "application:set_env(rabbit, channel_tick_interval, {})."
    )
    await asyncio.to_thread(broker.control, "eval", impatient.format(2000, 500))
    runs: list[str] = []
    slow = Router("slow", concurrency=1)

    @slow.event
    async def on_paid(event: Paid, envelope: Envelope) -> None:
        runs.append(envelope.id)
        await asyncio.sleep(3 if len(runs) == 1 else 0.1)

    events = 40
    wallets = Bus(unique, routers=[slow, payments()], settings=settings)
    try:
        async with wallets as bus, Worker(bus):
            for number in range(events):
                await bus.execute(Pay(wallet_id=f"w{number}", amount=1))
            await until(lambda: len(runs) >= events, "all are handled", within=60)

            async def settled() -> bool:
                return await bus.runtime.transport.depth(f"{unique}.slow") == 0

            await until(settled, "all are settled")
            assert len(runs) == len(set(runs)) == events
            assert await bus.runtime.control.dead_letters() == []
    finally:
        await asyncio.to_thread(broker.control, "eval", impatient.format(1800000, 60000))


# -- wrong


async def test_a_queue_that_does_not_match_stops_only_its_own_consumer(
    broker: RabbitMQNode, settings: Settings, bus: Bus, diary: Diary, unique: str
) -> None:
    payments = Payments(bus, diary)
    async with Worker(bus), channel_of(broker) as channel:
        await payments.pay("before")
        await until(lambda: diary.seen, "the payment is handled")
        await channel.queue_delete(f"{unique}.thanking")
        await channel.declare_queue(f"{unique}.thanking", durable=True)
        with pytest.raises(TopologyMismatch, match=rf"{unique}\.thanking.*bus topology apply"):
            async with build(settings, Diary(), unique):
                pass
        await payments.recovery(within=30)
        await channel.queue_delete(f"{unique}.thanking")


# -- unruly


class Unruly:
    """An inbox that holds deliveries back, gives them in any order, and some of them again."""

    def __init__(self, inbox: Inbox, chance: random.Random) -> None:
        self.repeated = 0
        self._inbox = inbox
        self._chance = chance
        self._held: list[Delivery] = []
        self._past: list[Delivery] = []

    async def take(self, limit: int) -> list[Delivery]:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02 if self._held else None):
                self._held += await self._inbox.take(limit)
        self._chance.shuffle(self._held)
        count = self._chance.randint(0, len(self._held))
        given, self._held = self._held[:count], self._held[count:]
        again = self._chance.sample(self._past, min(len(self._past), self._chance.randint(0, 3)))
        self.repeated += len(again)
        self._past += given
        return given + again

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        await self._inbox.acknowledge([*{(d.generation, d.tag): d for d in deliveries}.values()])

    async def stop(self) -> None:
        self._held.clear()  # they come again
        await self._inbox.stop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)


class UnrulyTransport:
    """A transport whose inboxes are unruly."""

    def __init__(self, transport: Transport, seed: int) -> None:
        self._transport = transport
        self._chance = random.Random(seed)
        self.inboxes: list[Unruly] = []

    async def inbox(self, queue: str, *, prefetch: int) -> Any:
        inbox = await self._transport.inbox(queue, prefetch=prefetch)
        self.inboxes.append(Unruly(inbox, self._chance))
        return self.inboxes[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Half(NamedTuple):
    """A bus, as its worker sees it."""

    runtime: Runtime


@pytest.mark.parametrize("seed", [1])
async def test_deliveries_shuffled_held_back_and_repeated_change_nothing(
    bus: Bus, diary: Diary, seed: int
) -> None:
    unruly = UnrulyTransport(bus.runtime.transport, seed)
    payments = Payments(bus, diary, pause=0.001)
    async with Worker(Half(bus.runtime._replace(transport=unruly))):
        async with payments.flowing():
            await until(lambda: payments.paid.total() > 500, "500 payments", within=30)
        await payments.expect_each_once()
    assert sum(inbox.repeated for inbox in unruly.inboxes) > 50


# -- starved


async def test_a_loop_that_stands_still_for_longer_than_the_heartbeat_allows(
    settings: Settings, unique: str, diary: Diary, capfd: pytest.CaptureFixture[str]
) -> None:
    starved = settings.model_copy(update={"heartbeat": 2})
    async with build(starved, diary, unique) as bus, Worker(bus):
        payments = Payments(bus, diary)
        async with payments.flowing():
            time.sleep(7)  # noqa: ASYNC251  # this is the fault
            await payments.recovery(within=30)
        await payments.expect_each_once()
    assert "disconnected" in "".join(capfd.readouterr())

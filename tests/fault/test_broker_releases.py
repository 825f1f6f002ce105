"""What differs between releases of RabbitMQ. A test runs where the broker is such, and is skipped
elsewhere with the reason; `bin/test --on debian13` and `--on forky` have the later ones.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
from aio_pika import Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractIncomingMessage,
    AbstractMessage,
    AbstractQueue,
    FieldValue,
)
from aio_pika.exceptions import AMQPError

from bus import Bus, RetryPolicy, Router, Settings, Worker
from bus.common.tasks import end
from bus.delivery.consumer import QueueConsumer
from bus.delivery.sentinel import Sentinel
from bus.errors import TransportUnavailable
from bus.operate.topology.apply import Applying
from bus.operate.topology.plan import Planning, found_at
from bus.testing.contracts.transport_contract import event, numbers, take
from bus.transports.base import DEATH_REASON, Delivery, Inbox, Transport
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.rabbitmq.inbox import RabbitInbox
from bus.transports.topology import (
    DELIVERY_LIMIT,
    Queue,
    Topology,
    dead_queue,
    handler_queue,
    projection_queues,
)
from tests.fault.conftest import channel_of
from tests.fault.load import Payments
from tests.servers import lent
from tests.service.wallet import Diary, GetWallet, Paid, Pay, build, payments
from tests.waiting import patience, until
from tools.services import MongoNode, RabbitMQNode

Release = tuple[int, int]
Opened = Callable[[], Awaitable[RabbitTransport]]

ANY: Release = (0, 0)
LATER: Release = (999, 0)


@pytest.fixture(scope="module")
def release(broker_of_module: RabbitMQNode) -> Release:
    """That of the broker that runs, as it says itself."""
    said = broker_of_module.control("eval", "element(2, application:get_key(rabbit, vsn)).")
    found = re.search(r"(\d+)\.(\d+)\.", said)
    assert found, said
    return int(found[1]), int(found[2])


def only(release: Release, *, since: Release = ANY, before: Release = LATER) -> None:
    """Skips the test where the broker is of another release."""
    if not since <= release < before:
        later = f"{since[0]}.{since[1]} or later" if since > ANY else ""
        earlier = f"before {before[0]}.{before[1]}" if before < LATER else ""
        wanted = " and ".join(filter(None, (later, earlier)))
        pytest.skip(f"for RabbitMQ {wanted}; {release[0]}.{release[1]} runs here")


@pytest.fixture
def queue(unique: str) -> Queue:
    return handler_queue(unique, "mails", ["JobPosted"])


@pytest.fixture
def board(unique: str) -> Queue:
    """A queue with a single active consumer."""
    return projection_queues(unique, "board", ["job"], 1)[0]


@pytest.fixture
async def opened(
    broker: RabbitMQNode, unique: str, queue: Queue, board: Queue
) -> AsyncIterator[Opened]:
    """Opens a transport whose queues are declared."""
    async with AsyncExitStack() as stack:

        async def opened() -> RabbitTransport:
            transport = RabbitTransport([broker.url], service=unique)
            stack.push_async_callback(transport.close)
            await transport.open()
            await transport.declare(Topology(unique, (queue, board)))
            return transport

        yield opened


@pytest.fixture
async def transport(opened: Opened) -> RabbitTransport:
    return await opened()


async def one(inbox: Inbox) -> Delivery:
    (delivery,) = await take(inbox, 1)
    return delivery


async def got(queue: AbstractQueue) -> AbstractIncomingMessage:
    message: AbstractIncomingMessage = await until(
        lambda: queue.get(fail=False), f"a message comes in {queue.name}"
    )
    return message


async def control(broker: RabbitMQNode, *words: str) -> None:
    await asyncio.to_thread(broker.control, *words)


async def policy(broker: RabbitMQNode, name: str, queues: str, **definition: object) -> None:
    words = ("--apply-to", "queues", name, queues, json.dumps(definition))
    await control(broker, "set_policy", *words)


# -- delivery counts


COUNTS: list[tuple[Release, list[set[str]]]] = [
    ((4, 3), [set(), {"x-acquired-count"}, {"x-acquired-count", "x-delivery-count"}]),
    ((4, 0), [set(), {"x-delivery-count"}, {"x-delivery-count"}]),
    (ANY, [{"x-delivery-count"}] * 3),
]
"""What RabbitMQ adds to a message at first, once it was returned, and once it was rejected too."""


async def test_what_rabbitmq_counts_in_headers(
    broker: RabbitMQNode, unique: str, release: Release
) -> None:
    async with channel_of(broker) as channel:
        raw = await channel.declare_queue(
            unique, durable=True, arguments={"x-queue-type": "quorum"}
        )
        await channel.default_exchange.publish(Message(b""), raw.name)
        first = await got(raw)
        await first.nack(requeue=True)
        second = await got(raw)
        await second.reject(requeue=True)
        added = [set(message.headers) for message in (first, second, await got(raw))]
    assert added == next(counts for since, counts in COUNTS if release >= since)


async def test_what_rabbitmq_counts_is_in_no_frame(
    transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=1)
    frame = event(1)
    await transport.publish([frame])
    first = await one(inbox)
    await inbox.release([first])
    second = await one(inbox)
    await inbox.reject(second)
    for delivery in (first, second, await one(inbox)):
        assert dict(delivery.frame.headers) == dict(frame.headers)


# -- delivery limits


async def rejected(inbox: Inbox, delivery: Delivery) -> None:
    await inbox.reject(delivery)


async def released(inbox: Inbox, delivery: Delivery) -> None:
    await inbox.release([delivery])


async def lost(inbox: Inbox, delivery: Delivery) -> None:
    await inbox.reopen()


Returning = Callable[[Inbox, Delivery], Awaitable[None]]


@pytest.mark.parametrize("returning", [rejected, released, lost])
async def test_what_counts_against_the_delivery_limit(
    returning: Returning, transport: RabbitTransport, unique: str, queue: Queue, release: Release
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=1)
    await transport.publish([event(1)])
    for _ in range(DELIVERY_LIMIT + 1):
        await returning(inbox, await one(inbox))
    if returning is released and release >= (4, 3):
        for _ in range(DELIVERY_LIMIT):
            await returning(inbox, await one(inbox))
        await inbox.acknowledge([await one(inbox)])
        return
    dead = await transport.inbox(dead_queue(unique), prefetch=1)
    assert (await one(dead)).frame.headers[DEATH_REASON] == "delivery_limit"
    assert await transport.depth(queue.name) == 0


async def test_without_a_limit_of_its_own_a_queue_has_that_of_the_release(
    broker: RabbitMQNode, unique: str, release: Release
) -> None:
    """Why each of our queues that is consumed says its limit."""
    async with channel_of(broker) as channel:
        raw = await channel.declare_queue(
            unique, durable=True, arguments={"x-queue-type": "quorum"}
        )
        await channel.default_exchange.publish(Message(b""), raw.name)
        for _ in range(DELIVERY_LIMIT + 1):
            await (await got(raw)).reject(requeue=True)
        if release >= (4, 0):
            assert await raw.get(fail=False) is None
        else:
            await (await got(raw)).ack()


async def test_the_queue_of_dead_letters_has_no_limit_on_any_release(
    transport: RabbitTransport, unique: str
) -> None:
    """What it gave up would be gone."""
    dead = await transport.inbox(dead_queue(unique), prefetch=1)
    await transport.publish([event(1, address="queue", topic=dead_queue(unique))], must_route=True)
    for _ in range(3 * DELIVERY_LIMIT):
        await dead.reject(await one(dead))
    assert numbers([await one(dead)]) == [1]


# -- a whole service, on a broker that was set up in another way


async def works(settings: Settings, service: str) -> None:
    """A command, a queued one, an event, a retry by the ladder and a dead letter."""
    diary = Diary()
    async with build(settings, diary, service) as bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1, mood="needs the ladder"))
        await bus.send(Pay(wallet_id="b", amount=2))
        await bus.execute(Pay(wallet_id="c", amount=3, mood="always fails"))
        wallet = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        assert wallet is not None
        assert wallet.total == 1
        handled = {("wallet-a", 1), ("wallet-b", 1)}
        await until(lambda: set(diary.seen) == handled, "events are handled, one by the ladder")
        (letter,) = await until(bus.runtime.control.dead_letters, "a dead letter")
        assert (letter["error"], letter["attempts"]) == ("RuntimeError", 3)
        assert sorted(diary.tries.values()) == [1, 3, 3]


@pytest.fixture(scope="module")
def strict(
    broker_of_module: RabbitMQNode, release: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RabbitMQNode]:
    """A broker that permits nothing of what RabbitMQ is going to take out."""
    only(release, since=(4, 0))
    listed = broker_of_module.control("list_deprecated_features", "name", "--formatter", "json")
    denied = [
        f"deprecated_features.permit.{feature['name']} = false" for feature in json.loads(listed)
    ]
    assert denied
    folder = tmp_path_factory.mktemp("strict")
    with lent(RabbitMQNode(folder, configuration=denied)) as node:
        yield node


async def test_with_all_deprecated_features_denied_everything_works(
    strict: RabbitMQNode, real_settings: Settings, unique: str
) -> None:
    await works(real_settings.model_copy(update={"amqp_url": strict.url}), unique)
    async with channel_of(strict) as channel:
        with pytest.raises(AMQPError, match="transient_nonexcl_queues"):
            await channel.declare_queue(f"{unique}.transient", durable=False)


async def test_nothing_of_ours_uses_a_deprecated_feature(
    broker: RabbitMQNode, real_settings: Settings, unique: str, release: Release
) -> None:
    only(release, since=(4, 0))
    await works(real_settings.model_copy(update={"amqp_url": broker.url}), unique)
    used = await asyncio.to_thread(
        broker.control, "list_deprecated_features", "--used", "name", "--formatter", "json"
    )
    assert json.loads(used) == []


@pytest.fixture(scope="module")
def khepri(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """A broker that keeps its queues and bindings in Khepri, not in Mnesia."""
    only(release, since=(4, 0))
    with lent(RabbitMQNode(tmp_path_factory.mktemp("khepri"))) as node:
        node.control("enable_feature_flag", "--opt-in", "khepri_db")
        yield node


async def test_a_service_and_its_queues_live_in_khepri(
    khepri: RabbitMQNode, real_settings: Settings, unique: str
) -> None:
    settings = real_settings.model_copy(update={"amqp_url": khepri.url})
    await works(settings, unique)
    await asyncio.sleep(2)  # a queue that is younger may be lost with its node
    await asyncio.to_thread(khepri.kill)
    await asyncio.to_thread(khepri.start)
    flags = json.loads(
        await asyncio.to_thread(
            khepri.control, "list_feature_flags", "name", "state", "--formatter", "json"
        )
    )
    assert {"name": "khepri_db", "state": "enabled"} in flags
    transport = RabbitTransport([khepri.url], service=unique, makes=False)
    await transport.open()
    try:
        async with build(settings, Diary(), unique).looking() as bus:
            await transport.declare(bus.runtime.topology)  # else what is missing is told
    finally:
        await transport.close()


# -- consumer time-outs


@pytest.fixture
async def impatient(broker: RabbitMQNode, unique: str, release: Release) -> AsyncIterator[None]:
    """RabbitMQ waits no longer than two seconds for an acknowledgement. From 4.3 on the queue looks
    to that itself, before, each channel does from time to time."""
    if release >= (4, 3):
        await policy(broker, unique, f"^{unique}[.]", **{"consumer-timeout": 2000})
        yield
        await control(broker, "clear_policy", unique)
        return
    setting = "application:set_env(rabbit, consumer_timeout, {}), " + (
        "application:set_env(rabbit, channel_tick_interval, {})."
    )
    await control(broker, "eval", setting.format(2000, 500))
    yield
    await control(broker, "eval", setting.format(1_800_000, 60_000))


def has_lost_one(bus: Bus, queue: str) -> bool:
    """Whether it had a consumer of the queue before the one that it has."""
    transport = bus.runtime.transport
    assert isinstance(transport, RabbitTransport)
    (inbox,) = (inbox for inbox in transport._inboxes if inbox.queue == queue)
    return (inbox.generation or 0) > 1


async def test_two_workers_that_both_held_a_batch_for_too_long_go_on(
    impatient: None,
    broker: RabbitMQNode,
    database: MongoNode,
    real_settings: Settings,
    unique: str,
) -> None:
    """The queue of their projection has a single active consumer, and both lose it."""
    servers = {"amqp_url": broker.url, "mongo_url": database.url}
    settings, diary = real_settings.model_copy(update=servers), Diary()
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(build(settings, diary, unique)) for _ in "ab"]
        for bus in buses:
            await stack.enter_async_context(Worker(bus))
        queue, load = f"{unique}.wallets", Payments(buses[0], diary)
        async with channel_of(broker) as channel:
            copy = await copied(channel, unique, load)
            await asyncio.to_thread(database.pause)
            try:
                await channel.default_exchange.publish(copy, queue)
                for bus in buses:
                    lost_one = partial(has_lost_one, bus, queue)
                    await until(lost_one, "each has it for too long, one after the other")
            finally:
                await asyncio.to_thread(database.resume)
        await load.pay("w")
        await load.expect_each_once(within=60)


async def copied(channel: AbstractChannel, service: str, load: Payments) -> AbstractMessage:
    """Returns an event that was published: that it comes once more changes nothing."""
    copies = await channel.declare_queue(exclusive=True)
    await copies.bind(f"{service}.events", "#")
    await load.pay("w")
    copy = await got(copies)
    await copy.ack()
    return copy


class Consuming(QueueConsumer):
    """A consumer as the sentinel sees it."""

    def __init__(self, inbox: RabbitInbox, transport: Transport) -> None:
        super().__init__(inbox.queue, transport)
        self._inbox = inbox

    async def run(self) -> None:
        """Is not run: its test takes from the inbox."""


def never_told(inbox: RabbitInbox) -> None:
    """Has it miss that RabbitMQ takes its consumer away."""
    assert inbox._consuming is not None
    inbox._consuming.channel.on_consumer_cancel_callbacks.clear()


async def test_a_queue_that_has_given_up_all_its_consumers_gets_them_back_by_the_sentinel(
    impatient: None, opened: Opened, board: Queue, release: Release
) -> None:
    """A queue with a single active consumer delivers to nobody then (rabbitmq-server#17317)."""
    only(release, since=(4, 3))
    transports = [await opened(), await opened()]
    consumers = []
    for transport in transports:
        inbox = await transport.inbox(board.name, prefetch=5)
        never_told(inbox)
        consumers.append(Consuming(inbox, transport))
    await transports[0].publish([event(1), event(2)])
    for consumer in consumers:
        assert consumer.inbox
        assert numbers(await take(consumer.inbox, 2)) == [1, 2]  # and hold them

    async def given_up() -> bool:
        first = transports[0]
        return (await first.consumers(board.name), await first.depth(board.name)) == (0, 2)

    await until(given_up, "the queue keeps its messages, and has no consumer", within=120)
    assert all(consumer.inbox and consumer.inbox.consuming for consumer in consumers)
    for consumer, transport in zip(consumers, transports, strict=True):
        await Sentinel([consumer], transport, every=60).look()
    arrived = [
        asyncio.create_task(consumer.inbox.take(5)) for consumer in consumers if consumer.inbox
    ]
    done, pending = await asyncio.wait(
        arrived, timeout=60 * patience(), return_when=asyncio.FIRST_COMPLETED
    )
    await end(pending)
    assert [numbers(task.result()) for task in done] == [[1, 2]]


# -- retries: by the ladder on every release


DELAYED = {"delayed-retry-type": "failed", "delayed-retry-max": 60_000}
"""RabbitMQ's own delayed retry, from 4.3 on: so much longer each time that a message was returned
as failed."""


async def test_what_rabbitmq_delays_itself_looks_like_an_empty_queue(
    broker: RabbitMQNode, transport: RabbitTransport, unique: str, queue: Queue, release: Release
) -> None:
    """Why retries do not go that way: who looks after lost queues, and who makes a queue anew,
    would take it for empty, and what it holds would be gone without a word."""
    only(release, since=(4, 3))
    await policy(broker, unique, f"^{unique}[.]", **DELAYED, **{"delayed-retry-min": 1500})
    inbox = await transport.inbox(queue.name, prefetch=5)
    await transport.publish([event(1)])
    await inbox.reject(await one(inbox))
    assert await transport.depth(queue.name) == 0
    await inbox.reject(await one(inbox))  # there it is
    async with channel_of(broker) as channel:
        deleted = await (await channel.get_underlay_channel()).queue_delete(queue.name)
    assert deleted.message_count == 0
    await control(broker, "clear_policy", unique)


async def test_rabbitmqs_own_retry_delays_and_counts_what_never_failed(
    broker: RabbitMQNode, transport: RabbitTransport, unique: str, queue: Queue, release: Release
) -> None:
    """Why retries do not go that way: a worker that is killed would use up a try of all that it
    had at hand, and have later events overtake it."""
    only(release, since=(4, 3))
    await policy(broker, unique, f"^{unique}[.]", **DELAYED, **{"delayed-retry-min": 3000})
    inbox = await transport.inbox(queue.name, prefetch=2)
    await transport.publish([event(1), event(2)])
    await take(inbox, 2)
    await inbox.reopen()
    await transport.publish([event(3)])
    overtaking = await one(inbox)
    await inbox.acknowledge([overtaking])
    assert numbers([overtaking, *await take(inbox, 2)]) == [3, 1, 2]
    await control(broker, "clear_policy", unique)


@pytest.fixture(scope="module")
def managed(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """A broker that tells policies, and what it holds back."""
    only(release, since=(4, 3))
    folder = tmp_path_factory.mktemp("managed")
    with lent(RabbitMQNode(folder, plugins=["rabbitmq_management"])) as node:
        yield node


async def test_a_queue_that_rabbitmq_holds_messages_back_in_is_not_made_anew(
    managed: RabbitMQNode, real_settings: Settings, unique: str
) -> None:
    """They would be deleted with it, and the broker would say that none was."""
    urls = {"amqp_url": managed.url, "management_url": managed.management_url}
    settings, name = real_settings.model_copy(update=urls), f"{unique}.thanking"
    async with build(settings, Diary(), unique), channel_of(managed) as channel:
        await channel.queue_delete(name)
        arguments: dict[str, FieldValue] = {"x-queue-type": "quorum", "x-delivery-limit": 7}
        other = await channel.declare_queue(name, durable=True, arguments=arguments)
        await policy(managed, unique, f"^{name}$", **DELAYED, **{"delayed-retry-min": 20_000})
        await channel.default_exchange.publish(Message(b"precious"), name)
        await (await got(other)).reject(requeue=True)
    async with build(settings, Diary(), unique).looking() as bus:
        (named,) = [change for change in (await Planning(bus).plan()).changes if change.sign == "!"]
        assert "no count shows it" in named.why
        with pytest.raises(TransportUnavailable, match="would be lost with it"):
            await Applying(bus).apply()

        async def seen() -> bool:
            return (await found_at(bus.runtime)).queues[name].delayed == 1

        await until(seen, "the management API has counted again")
        await control(managed, "clear_policy", unique)
        with pytest.raises(TransportUnavailable, match=r"seen: 1.*wait until"):
            await Applying(bus).apply()

        async def moved() -> bool:
            try:
                return bool((await Applying(bus).apply()).moved)
            except TransportUnavailable:
                return False

        await until(moved, "it is made anew once the message came back", within=60)
    async with channel_of(managed) as channel:
        message = await got(await channel.get_queue(name))
        assert message.body == b"precious"
        await message.ack()


async def nothing(broker: RabbitMQNode, service: str) -> None:
    """Disturbs nobody."""


async def without_policy(broker: RabbitMQNode, service: str) -> None:
    await control(broker, "clear_policy", service)


async def killed(broker: RabbitMQNode, service: str) -> None:
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)


@pytest.mark.parametrize("disturb", [nothing, without_policy, killed])
async def test_a_handler_is_tried_again_by_the_ladder_whatever_the_broker_could_do(
    disturb: Callable[[RabbitMQNode, str], Awaitable[None]],
    broker: RabbitMQNode,
    real_settings: Settings,
    unique: str,
    release: Release,
) -> None:
    if disturb is without_policy:
        only(release, since=(4, 3))
    if release >= (4, 3):
        await policy(
            broker, unique, f"^{unique}[.]failing$", **DELAYED, **{"delayed-retry-min": 9000}
        )
    runs: list[float] = []
    failing = Router("failing", retry=RetryPolicy(tries=1, delays=(1, 5)))

    @failing.event
    async def on_paid(event: Paid) -> None:
        runs.append(time.monotonic())
        raise RuntimeError("no way")

    settings = real_settings.model_copy(update={"amqp_url": broker.url})
    service = Bus(unique, routers=[failing, payments()], settings=settings)
    async with service as bus, Worker(bus):
        await asyncio.sleep(2)  # a queue that is younger may be lost with its node
        await bus.execute(Pay(wallet_id="a", amount=1))
        await until(lambda: len(runs) == 2, "it is tried again")
        words = bus.runtime.transport.retries
        assert ("could delay by itself, and that is not used" in words) == (release >= (4, 3))
        waits = partial(bus.runtime.transport.depth, f"{unique}.delay.5s")
        await until(waits, "it waits for the third try")
        await disturb(broker, unique)
        (letter,) = await until(bus.runtime.control.dead_letters, "it is given up", within=60)
        assert (letter["error"], letter["attempts"], len(runs)) == ("RuntimeError", 3, 3)
        assert runs[1] - runs[0] >= 1
        assert runs[2] - runs[1] >= 5

"""What RabbitMQ and the network do to the transport, on a broker of our own."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aio_pika
import pytest

from bus.common.tasks import end
from bus.errors import ConfigurationError, TopologyMismatch, TransportUnavailable
from bus.testing.contracts.transport_contract import event, eventually, numbers, take
from bus.transports.base import Frame, Inbox
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.rabbitmq.publish_channel import FRAMES_AT_ONCE
from bus.transports.topology import Queue, Topology, projection_queues
from tests.waiting import patience, until
from tools.faults import Proxy
from tools.services.rabbitmq import RabbitMQNode

Opened = Callable[..., Awaitable[RabbitTransport]]


@pytest.fixture
def queue(unique: str) -> Queue:
    return projection_queues(unique, "board", ["job"], 1)[0]


@pytest.fixture
async def opened(broker: RabbitMQNode, unique: str, queue: Queue) -> AsyncIterator[Opened]:
    """Opens a transport whose queue is declared."""
    async with AsyncExitStack() as stack:

        async def opened(*urls: str, **options: Any) -> RabbitTransport:
            transport = RabbitTransport(urls or [broker.url], service=unique, **options)
            stack.push_async_callback(transport.close)
            await transport.open()
            await transport.declare(Topology(unique, (queue,)))
            return transport

        yield opened


@pytest.fixture
async def transport(opened: Opened) -> RabbitTransport:
    return await opened()


async def publish_until_confirmed(transport: RabbitTransport, frame: Frame) -> None:
    while failures := await transport.publish([frame], must_route=True, timeout=5):
        assert isinstance(failures[frame.id], TransportUnavailable), failures
        await asyncio.sleep(0.02)


async def healthy(transport: RabbitTransport) -> bool:
    return transport.healthy


async def unhealthy(transport: RabbitTransport) -> bool:
    return not transport.healthy


class Traffic:
    """Publishes without a pause, consumes and acknowledges, and remembers both."""

    def __init__(self, transport: RabbitTransport, inbox: Inbox) -> None:
        self.confirmed: set[str] = set()
        self.arrived: set[str] = set()
        self._transport = transport
        self._inbox = inbox
        self._ids = itertools.count()

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        publishing = [asyncio.create_task(self._publish()) for _ in range(20)]
        consuming = asyncio.create_task(self._consume())
        try:
            await eventually(self._some, "messages flow before the fault")
            yield
            await end(publishing)
            await eventually(self._all, "every confirmed message arrives")
        finally:
            await end([*publishing, consuming])

    async def _some(self) -> bool:
        return len(self.arrived) > 50

    async def _all(self) -> bool:
        return self.confirmed <= self.arrived

    async def _publish(self) -> None:
        for number in self._ids:
            frame = event(number)
            await publish_until_confirmed(self._transport, frame)
            self.confirmed.add(frame.id)

    async def _consume(self) -> None:
        while deliveries := await self._inbox.take(100):
            self.arrived |= {delivery.frame.id for delivery in deliveries}
            await self._inbox.acknowledge(deliveries)


# -- declaring


async def test_a_mismatch_names_the_queue_and_the_remedy_and_disturbs_nobody(
    broker: RabbitMQNode, transport: RabbitTransport, unique: str, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=10)
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{unique}.other", durable=True)
    other = Queue(f"{unique}.other", "events", ("x.#",))
    with pytest.raises(TopologyMismatch, match=f"{unique}.other.*inequivalent arg.*topology apply"):
        await transport.declare(Topology(unique, (other,)))
    assert transport.healthy
    assert await transport.publish([event(1)], must_route=True) == {}
    assert numbers(await take(inbox, 1)) == [1]


async def test_a_missing_exchange_is_made_again(
    broker: RabbitMQNode, transport: RabbitTransport, unique: str, queue: Queue
) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        await (await connection.channel()).exchange_delete(f"{unique}.events")
    failures = await transport.publish([event(1)])
    assert isinstance(failures[event(1).id], TransportUnavailable)
    await eventually(lambda: healthy(transport), "the publisher has a channel again")
    assert await transport.publish([event(2)]) == {}


# -- losing the broker


async def test_all_connections_closed_by_the_broker(
    broker: RabbitMQNode, transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=100)
    traffic = Traffic(transport, inbox)
    async with traffic.flowing():
        closing = asyncio.create_task(
            asyncio.to_thread(broker.control, "close_all_connections", "a test")
        )
        await eventually(lambda: unhealthy(transport), "the connections are closed")
        lost = asyncio.get_running_loop().time()
        before = len(traffic.arrived)
        await eventually(lambda: healthy(transport), "the connections are back")

        async def flows() -> bool:
            return len(traffic.arrived) > before + 20

        await eventually(flows, "messages arrive again")
        assert asyncio.get_running_loop().time() - lost < 5 * patience()
        await closing


async def test_a_killed_broker_loses_no_confirmed_message(
    broker: RabbitMQNode, transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=100)
    traffic = Traffic(transport, inbox)
    async with traffic.flowing():
        await asyncio.sleep(2)  # a quorum queue younger than that may not survive its only node
        await asyncio.to_thread(broker.kill)
        await eventually(lambda: unhealthy(transport), "the loss is noticed")
        await asyncio.to_thread(broker.start)
        await eventually(lambda: healthy(transport), "the connections are back")
        before = len(traffic.arrived)

        async def flows() -> bool:
            return len(traffic.arrived) > before + 50

        await eventually(flows, "messages arrive again")


async def test_a_deleted_queue_is_made_and_consumed_again(
    broker: RabbitMQNode, transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=10)
    async with await aio_pika.connect(broker.url) as connection:
        await (await connection.channel()).queue_delete(queue.name)
    await publish_until_routed(transport, event(1))
    deliveries = await take(inbox, 1)
    assert deliveries[0].generation > 1
    await inbox.acknowledge(deliveries)


async def publish_until_routed(transport: RabbitTransport, frame: Frame) -> None:
    async def routed() -> bool:
        return not await transport.publish([frame], must_route=True)

    await eventually(routed, "the queue is there again")


async def test_a_delivery_of_a_lost_connection_comes_again_and_cannot_be_settled(
    broker: RabbitMQNode, transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=10)
    await transport.publish([event(1), event(2)])
    old = await take(inbox, 2)
    await asyncio.to_thread(broker.control, "close_all_connections", "a test")
    new = await take(inbox, 2)
    assert numbers(new) == [1, 2]
    assert new[0].generation > old[0].generation
    await inbox.acknowledge(old)
    await inbox.release(old)
    await inbox.reject(old[0])
    await inbox.acknowledge(new[:1])
    await inbox.close()
    later = await transport.inbox(queue.name, prefetch=10)
    assert numbers(await take(later, 1)) == [2]


async def test_a_frozen_broker_ends_a_publish_in_time_and_the_message_arrives_later(
    broker: RabbitMQNode, transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=10)
    broker.pause()
    try:
        async with asyncio.timeout(3 * patience()):
            failures = await transport.publish([event(1)], timeout=0.2)
    finally:
        broker.resume()
    assert "may have arrived" in str(failures[event(1).id])
    assert numbers(await take(inbox, 1)) == [1]


async def test_an_alarm_refuses_publishing_and_lets_consumers_go_on(
    broker: RabbitMQNode, transport: RabbitTransport, queue: Queue
) -> None:
    await transport.publish([event(1)])
    try:
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.00001")

        async def refused() -> bool:
            failures = await transport.publish([event(2)], timeout=0.2)
            return "alarm" in str(failures.get(event(2).id))

        await eventually(refused, "the alarm is known")
        assert not transport.healthy
        inbox = await transport.inbox(queue.name, prefetch=1)
        assert numbers(await take(inbox, 1)) == [1]
    finally:
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.4")
    await eventually(lambda: healthy(transport), "the alarm is over")
    assert await transport.publish([event(3)]) == {}


# -- connecting


@pytest.fixture
async def proxy(broker: RabbitMQNode) -> AsyncIterator[Proxy]:
    async with Proxy(broker.url) as proxy:
        yield proxy


def wrong(url: str) -> str:
    """The URL with a password that is not the broker's."""
    return url.replace("guest:guest", "guest:secret-word")


async def test_a_peer_that_says_nothing_ends_opening_in_time_and_names_no_password(
    proxy: Proxy, unique: str, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy.mute = True
    transport = RabbitTransport([wrong(proxy.url)], service=unique, connect_timeout=0.2)
    async with asyncio.timeout(3 * patience()):
        try:
            with pytest.raises(TransportUnavailable, match=f"127.0.0.1:{proxy.port}") as raised:
                await transport.open()
            failures = await transport.publish([event(1)])
        finally:
            await transport.close()
    assert isinstance(failures[event(1).id], TransportUnavailable)
    assert "secret-word" not in str(raised.value) + "".join(capfd.readouterr())


async def test_a_wrong_password_is_told_without_it(
    proxy: Proxy, unique: str, capfd: pytest.CaptureFixture[str]
) -> None:
    within = 5 * patience()
    transport = RabbitTransport([wrong(proxy.url)], service=unique, connect_timeout=within)
    try:
        with pytest.raises(TransportUnavailable, match="ACCESS_REFUSED") as raised:
            await transport.open()
    finally:
        await transport.close()
    assert "secret-word" not in str(raised.value) + "".join(capfd.readouterr())


async def test_a_broker_that_comes_later_is_found(proxy: Proxy, unique: str, queue: Queue) -> None:
    await proxy.shut()
    transport = RabbitTransport([proxy.url], service=unique, connect_timeout=2 * patience())
    try:
        with pytest.raises(TransportUnavailable):
            await transport.open()
        with pytest.raises(TransportUnavailable):
            await transport.declare(Topology(unique, (queue,)))
        inbox = await transport.inbox(queue.name, prefetch=10)
        await proxy.open()
        await publish_until_routed(transport, event(1))  # the inbox declares what it misses
        assert numbers(await take(inbox, 1)) == [1]
    finally:
        await transport.close()


async def test_a_broker_that_was_away_for_long_is_found_within_two_seconds_of_its_return(
    proxy: Proxy, opened: Opened
) -> None:
    transports = [await opened(proxy.url) for _ in range(4)]
    await proxy.shut()
    await asyncio.sleep(6.5)  # the outage: pauses have grown as long as they get
    await proxy.open()
    back = asyncio.get_running_loop().time()

    async def all_healthy() -> bool:
        return all(transport.healthy for transport in transports)

    await eventually(all_healthy, "all are connected again")
    assert asyncio.get_running_loop().time() - back < 2.5 * patience()


async def test_random_cuts_lose_no_confirmed_message(
    proxy: Proxy, opened: Opened, queue: Queue
) -> None:
    transport = await opened(proxy.url)
    traffic = Traffic(transport, await transport.inbox(queue.name, prefetch=100))
    async with traffic.flowing():
        for _ in range(10):
            before = len(traffic.arrived)
            proxy.cut()
            await eventually(lambda: unhealthy(transport), "the cut is noticed")
            await eventually(lambda: healthy(transport), "the connections are back")

            async def flows(before: int = before) -> bool:
                return len(traffic.arrived) > before + 20

            await eventually(flows, "messages arrive again")


async def test_without_a_broker_nothing_waits_for_ever(
    proxy: Proxy, opened: Opened, queue: Queue
) -> None:
    within = 2 * patience()
    transport = await opened(proxy.url, connect_timeout=within)
    inbox = await transport.inbox(queue.name, prefetch=10)
    await transport.publish([event(1)])
    taken = await take(inbox, 1)
    await proxy.shut()
    await eventually(lambda: unhealthy(transport), "the loss is noticed")
    async with asyncio.timeout(10 * within):
        failures = await transport.publish([event(2)])
        assert isinstance(failures[event(2).id], TransportUnavailable)
        for counting in (transport.depth(queue.name), transport.consumers(queue.name)):
            with pytest.raises(TransportUnavailable):
                await counting
        with pytest.raises(TransportUnavailable):
            await transport.declare(Topology("t", ()))
        await inbox.acknowledge(taken)
        await inbox.stop()
        assert await inbox.take(10) == []
        await inbox.close()
        await transport.close()


async def test_a_half_open_connection_is_noticed(
    proxy: Proxy, opened: Opened, queue: Queue
) -> None:
    transport = await opened(proxy.url, heartbeat=1, connect_timeout=2 * patience())
    inbox = await transport.inbox(queue.name, prefetch=10)
    proxy.mute = True
    proxy.half_open()
    await eventually(lambda: unhealthy(transport), "the silence is noticed")
    proxy.mute = False
    await until(lambda: healthy(transport), "the connections are back")
    assert await transport.publish([event(1)]) == {}
    assert numbers(await take(inbox, 1)) == [1]


async def test_the_next_url_is_tried(proxy: Proxy, broker: RabbitMQNode, opened: Opened) -> None:
    await proxy.shut()
    transport = await opened(proxy.url, broker.url)
    assert transport.healthy


@pytest.mark.parametrize(
    ("urls", "problem"),
    [
        ([], "no URL given"),
        (["http://user:secret-word@host/"], "must begin with amqp"),
        (["amqps://user:secret-word@host/?no_verify_ssl=1"], "turns the checks of TLS off"),
        (["amqp://user:secret-word@host:port/"], "does not read as amqp"),
    ],
)
def test_a_url_that_cannot_serve_is_refused(urls: list[str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        RabbitTransport(urls, service="s")
    assert "secret-word" not in str(raised.value)


# -- the hot path


async def test_a_cancelled_publish_leaves_the_others_alone(
    transport: RabbitTransport, queue: Queue
) -> None:
    inbox = await transport.inbox(queue.name, prefetch=100)
    calls = [asyncio.create_task(transport.publish([event(n)])) for n in range(30)]
    await asyncio.sleep(0)  # they are all on their way
    for call in calls[::3]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::3])
    assert [result for n, result in enumerate(results) if n % 3] == [{}] * 20
    assert await transport.publish([event(30)]) == {}
    assert numbers(await take(inbox, 31)) == list(range(31))


async def test_no_task_is_made_for_a_message_and_one_tick_is_few_writes(
    transport: RabbitTransport, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where an upgrade of the library leads past our hot path."""
    tasks, writes = 0, 0
    loop = asyncio.get_running_loop()
    write = asyncio.StreamWriter.write

    def counted_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal tasks
        tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    def counted_write(writer: asyncio.StreamWriter, data: bytes) -> None:
        nonlocal writes
        writes += b"JobPosted" in data
        write(writer, data)

    inbox = await transport.inbox(queue.name, prefetch=1000)
    monkeypatch.setattr(asyncio.StreamWriter, "write", counted_write)
    loop.set_task_factory(counted_task)
    try:
        await asyncio.gather(*(transport.publish([event(n), event(n)]) for n in range(100)))
        gathered, tasks = tasks, 0
        deliveries = await take(inbox, 200)
        await inbox.acknowledge(deliveries)
    finally:
        loop.set_task_factory(None)
    assert gathered <= 110  # gather's own
    assert tasks <= 10
    assert writes == math.ceil(200 / FRAMES_AT_ONCE)

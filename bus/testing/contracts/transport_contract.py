"""What every transport owes the bus, as tests: supply one fixture, inherit the rest.

    class TestMyTransport(TransportContract):
        @pytest.fixture
        async def transport_factory(self) -> AsyncIterator[TransportFactory]: ...

The factory opens a transport for a service; all transports of a test share one broker. The fixture
closes them at the end. Needs pytest-asyncio in its auto mode.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import pytest

from bus.common.clock import now
from bus.data.limits import MAX_HEADERS
from bus.errors import (
    InvalidMessage,
    OutcomeUnknown,
    TopologyMismatch,
    TransportUnavailable,
    Unroutable,
)
from bus.transports.base import (
    DEATH_QUEUE,
    DEATH_REASON,
    MAX_BODY,
    MOST_WAITING,
    REPLY,
    Delivery,
    Frame,
    Inbox,
    Transport,
)
from bus.transports.topology import (
    COMMAND_TOPIC,
    DELAYS,
    DELIVERY_LIMIT,
    Queue,
    Topology,
    command_queue,
    event_topic,
    handler_queue,
    projection_queues,
    slot_of,
)

DEADLINE = 30.0


class TransportFactory(Protocol):
    """Opens a transport for a service, on the broker of this test."""

    def __call__(self, service: str) -> Awaitable[Transport]: ...


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits until the condition holds; fails with what did not happen."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not await condition():
        assert loop.time() < deadline, f"not within {DEADLINE} s: {what}"
        await asyncio.sleep(0.02)


async def take(inbox: Inbox, count: int) -> list[Delivery]:
    """Takes from the inbox until `count` deliveries have come; fails after `DEADLINE` seconds."""
    taken: list[Delivery] = []
    try:
        async with asyncio.timeout(DEADLINE):
            while len(taken) < count:
                taken += await inbox.take(count - len(taken))
    except TimeoutError:
        pytest.fail(f"{inbox.queue}: {len(taken)} of {count} arrived within {DEADLINE} s")
    return taken


async def until_published(transport: Transport, frame: Frame, *, must_route: bool = False) -> None:
    """Publishes repeatedly until the broker has taken the frame."""

    async def published() -> bool:
        return not await transport.publish([frame], must_route=must_route)

    await eventually(published, f"{frame.id} is published")


async def nothing_more(transport: Transport, inbox: Inbox) -> None:
    """Checks that queue and inbox are empty, without waiting: anything would have come before."""
    await inbox.stop()
    assert await inbox.take(1000) == []
    assert await transport.depth(inbox.queue) == 0


async def nothing_more_taken(transport: Transport, inbox: Inbox) -> None:
    """Checks that nobody consumes the queue: its message stays, and the inbox returns none."""
    assert await inbox.take(1000) == []
    await eventually(lambda: _consumers(transport, inbox.queue, 0), "nobody consumes")
    await eventually(lambda: _depth(transport, inbox.queue, 1), "the message stays")


def event(number: int, stream: str = "job-1", **fields: object) -> Frame:
    frame = Frame(
        address="events",
        topic=event_topic("job", "JobPosted", stream),
        id=f"{stream}/{number}",
        name="JobPosted",
        body=b'{"number": %d}' % number,
        time=now(),
        correlation_id="c1",
        headers={"stream": stream, "version": number},
    )
    return frame._replace(**fields)  # type: ignore[arg-type]


def numbers(deliveries: Sequence[Delivery]) -> list[str | int]:
    return [delivery.frame.headers["version"] for delivery in deliveries]


def command(number: int) -> Frame:
    return event(number, address="commands", topic=COMMAND_TOPIC)


def reply_to(delivery: Delivery, body: bytes) -> Frame:
    asked = delivery.frame
    return event(0, address=REPLY, topic=asked.reply_to, id=asked.id, name="answer", body=body)


class TransportContract:
    """Tests a transport. Inherit it and supply the fixture `transport_factory`."""

    @pytest.fixture
    def service(self) -> str:
        return f"t{uuid.uuid4().hex[:10]}"

    @pytest.fixture
    def queue(self, service: str) -> Queue:
        return projection_queues(service, "board", ["job"], 1)[0]

    @pytest.fixture
    async def transport(
        self, transport_factory: TransportFactory, service: str, queue: Queue
    ) -> Transport:
        transport = await transport_factory(service)
        await transport.declare(Topology(service, (queue, command_queue(service))))
        return transport

    # -- publish and take

    async def test_a_frame_arrives_as_it_was_published(
        self, transport: Transport, queue: Queue
    ) -> None:
        frame = event(
            1,
            body=bytes(range(256)) * 2000,  # more than one AMQP frame holds
            headers={"version": -(2**31), "größe": "ü" * 300, "n": 2**31 - 1, "small": 5, "e": ""},
        )
        empty = event(2, body=b"", headers={})
        inbox = await transport.inbox(queue.name, prefetch=10)
        assert await transport.publish([frame, empty], must_route=True) == {}
        deliveries = await take(inbox, 2)
        assert [delivery.frame for delivery in deliveries] == [frame, empty]
        assert {delivery.queue for delivery in deliveries} == {queue.name}
        assert not any(delivery.redelivered for delivery in deliveries)

    async def test_a_delivery_tells_by_which_exchange_it_came(
        self, transport_factory: TransportFactory, service: str
    ) -> None:
        other = f"{service}_other"
        (queue,) = projection_queues(service, "both", ["job", "card"], 1, {"card": other})
        theirs, ours = await transport_factory(other), await transport_factory(service)
        await theirs.declare(Topology(other, (command_queue(other),)))
        await ours.declare(Topology(service, (queue,)))
        inbox = await ours.inbox(queue.name, prefetch=10)
        assert await ours.publish([event(1)], must_route=True) == {}
        card = event(2, topic="card.Drawn.0")
        assert await theirs.publish([card], must_route=True) == {}
        straight = event(3, address="queue", topic=queue.name)
        assert await theirs.publish([straight], must_route=True) == {}
        deliveries = await take(inbox, 3)
        assert {d.frame.headers["version"]: d.exchange for d in deliveries} == {
            1: f"{service}.events",
            2: f"{other}.events",
            3: "",
        }

    async def test_a_queue_keeps_the_order(self, transport: Transport, queue: Queue) -> None:
        inbox = await transport.inbox(queue.name, prefetch=500)
        calls = [transport.publish([event(n), event(n + 1)]) for n in range(0, 300, 2)]
        assert await asyncio.gather(*calls) == [{}] * 150
        assert numbers(await take(inbox, 300)) == list(range(300))

    async def test_take_returns_all_that_has_arrived_up_to_the_limit(
        self, transport: Transport, queue: Queue
    ) -> None:
        await transport.publish([event(n) for n in range(10)])
        inbox = await transport.inbox(queue.name, prefetch=100)
        first = await take(inbox, 1)
        await eventually(lambda: _ready(transport, inbox, 0), "all are handed over")
        batches = [first, await inbox.take(4), await inbox.take(100)]
        assert [len(batch) for batch in batches] == [1, 4, 5]

    async def test_a_command_reaches_the_command_queue(
        self, transport: Transport, service: str
    ) -> None:
        queue = command_queue(service)
        command = event(1, address=queue.address, topic=queue.topics[0])
        assert await transport.publish([command], must_route=True) == {}
        inbox = await transport.inbox(queue.name, prefetch=1)
        assert [delivery.frame for delivery in await take(inbox, 1)] == [command]

    async def test_messages_outlive_the_transport(
        self, transport_factory: TransportFactory, transport: Transport, service: str, queue: Queue
    ) -> None:
        await transport.publish([event(1)])
        await transport.close()
        later = await transport_factory(service)
        inbox = await later.inbox(queue.name, prefetch=1)
        assert numbers(await take(inbox, 1)) == [1]

    # -- settling

    async def test_what_was_acknowledged_does_not_come_again(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=100)
        await transport.publish([event(n) for n in range(20)])
        deliveries = await take(inbox, 20)
        await inbox.acknowledge(deliveries[10:])  # not the oldest: one by one
        await inbox.acknowledge(deliveries[:10])
        await inbox.acknowledge(deliveries)  # settled already: nothing happens
        await inbox.close()
        await nothing_more(transport, await transport.inbox(queue.name, prefetch=100))

    async def test_what_was_not_settled_comes_again_in_order_and_marked(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=5)
        await transport.publish([event(n) for n in range(10)])
        deliveries = await take(inbox, 5)
        await inbox.acknowledge([deliveries[1]])
        await take(inbox, 1)
        await inbox.close()
        again = await take(await transport.inbox(queue.name, prefetch=100), 9)
        assert numbers(again) == [0, 2, 3, 4, 5, 6, 7, 8, 9]
        marked = [delivery.redelivered for delivery in again]
        assert marked == [True] * 5 + [False] * 4

    async def test_what_was_released_comes_again(self, transport: Transport, queue: Queue) -> None:
        inbox = await transport.inbox(queue.name, prefetch=10)
        await transport.publish([event(n) for n in range(3)])
        await inbox.release(await take(inbox, 3))
        again = await take(inbox, 3)
        assert sorted(map(str, numbers(again))) == ["0", "1", "2"]
        assert all(delivery.redelivered for delivery in again)

    async def test_what_is_rejected_too_often_becomes_a_dead_letter(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=1)
        poison = event(1)
        await transport.publish([poison, event(2)])
        tries = 0
        while numbers(deliveries := await take(inbox, 1)) == [1]:
            tries += 1
            await inbox.reject(deliveries[0])
        assert tries == DELIVERY_LIMIT + 1
        assert numbers(deliveries) == [2]
        dead = await take(await transport.inbox(f"{service}.dead", prefetch=1), 1)
        letter = dead[0].frame
        assert letter.headers.items() >= poison.headers.items()
        assert letter.headers[DEATH_QUEUE] == queue.name
        assert letter.headers[DEATH_REASON] == "delivery_limit"
        assert letter._replace(address="events", headers=poison.headers) == poison

    async def test_a_delayed_frame_comes_to_its_queue_later(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=10)
        delayed = event(1, address=f"delay.{DELAYS[0]}s", topic=queue.name)
        assert await transport.publish([delayed], must_route=True) == {}
        assert await transport.publish([event(2)], must_route=True) == {}
        later, first = reversed(await take(inbox, 2))
        assert numbers([first, later]) == [2, 1]
        assert later.frame == delayed._replace(address="")

    async def test_a_frame_for_one_queue_comes_to_no_other(
        self, transport: Transport, service: str
    ) -> None:
        both = [projection_queues(service, name, ["job"], 1)[0] for name in ("one", "two")]
        await transport.declare(Topology(service, tuple(both)))
        one, two = [await transport.inbox(queue.name, prefetch=10) for queue in both]
        direct = event(1, address="queue", topic=both[0].name)
        assert await transport.publish([direct], must_route=True) == {}
        assert [delivery.frame for delivery in await take(one, 1)] == [direct._replace(address="")]
        await transport.publish([event(2)])
        assert numbers(await take(two, 1)) == [2]

    async def test_a_frame_for_a_queue_that_is_not_there_is_an_error(
        self, transport: Transport, service: str
    ) -> None:
        nowhere = event(1, address="queue", topic=f"{service}.nowhere")
        failures = await transport.publish([nowhere, event(2)], must_route=True)
        assert {id: type(failure) for id, failure in failures.items()} == {nowhere.id: Unroutable}

    async def test_no_more_than_the_prefetch_is_unsettled(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=3)
        await transport.publish([event(n) for n in range(5)])
        first = await take(inbox, 3)
        assert await transport.depth(queue.name) == 2
        await inbox.acknowledge(first[:2])
        assert numbers(await take(inbox, 2)) == [3, 4]

    async def test_no_more_waits_than_fits_however_many_are_asked_for(
        self, transport: Transport, queue: Queue
    ) -> None:
        count, body = 60, b" " * (900 * 1024)
        for number in range(count):
            assert await transport.publish([event(number, body=body)], must_route=True) == {}
        inbox = await transport.inbox(queue.name, prefetch=1000)
        room = MOST_WAITING // len(body) + 2

        async def left() -> bool:
            return await transport.depth(queue.name) >= count - room

        await eventually(left, "most stay at the broker")
        seen: set[str | int] = set()
        while len(seen) < count:
            deliveries = await take(inbox, 1)
            seen |= set(numbers(deliveries))
            await inbox.acknowledge(deliveries)

    # -- routing

    async def test_a_message_that_must_be_routed_and_is_not_is_an_error(
        self, transport: Transport
    ) -> None:
        lost = event(1, topic="other.Thing.0")
        failures = await transport.publish([lost, event(2)], must_route=True)
        assert failures.keys() == {lost.id}
        assert isinstance(failures[lost.id], Unroutable)

    async def test_the_same_id_routable_and_unroutable_in_flight_together(
        self, transport: Transport
    ) -> None:
        routable, lost = event(1), event(1, topic="other.Thing.0")
        calls = [
            transport.publish([frame], must_route=True) for frame in (routable, lost) for _ in "123"
        ]
        results = await asyncio.gather(*calls)
        assert results[:3] == [{}] * 3
        assert all(isinstance(result[lost.id], Unroutable) for result in results[3:])

    async def test_an_event_without_a_subscriber_is_fine(self, transport: Transport) -> None:
        assert await transport.publish([event(1, topic="nobody.Cares.1")]) == {}

    async def test_what_cannot_travel_is_refused_and_the_others_go(
        self, transport: Transport, queue: Queue
    ) -> None:
        refused = [
            event(1, body=b" " * (MAX_BODY + 1)),
            event(2, headers={"large": "x" * MAX_HEADERS}),
            event(3, headers={"float": 1.5}),
            event(4, headers={"wide": 2**31}),
            event(5, topic="x" * 300),
            event(6, correlation_id="\ud800"),
            event(7, address="nowhere"),
        ]
        failures = await transport.publish([event(0), *refused, event(9)])
        assert failures.keys() == {frame.id for frame in refused}
        assert all(isinstance(failure, InvalidMessage) for failure in failures.values())
        inbox = await transport.inbox(queue.name, prefetch=100)
        assert numbers(await take(inbox, 2)) == [0, 9]

    async def test_a_partition_receives_its_slots_only(
        self, transport_factory: TransportFactory, service: str
    ) -> None:
        queues = projection_queues(service, "board", ["job", "application"], 4)
        transport = await transport_factory(service)
        await transport.declare(Topology(service, tuple(queues)))
        streams = [f"job-{n}" for n in range(40)]
        frames = [event(version, stream) for version in (1, 2) for stream in streams]
        assert await transport.publish(frames, must_route=True) == {}
        for partition, queue in enumerate(queues):
            expected = [
                frame for frame in frames if slot_of(frame.id.split("/")[0]) % 4 == partition
            ]
            inbox = await transport.inbox(queue.name, prefetch=100)
            taken = await take(inbox, len(expected))
            assert [delivery.frame for delivery in taken] == expected
            await inbox.acknowledge(taken)
            await nothing_more(transport, inbox)

    # -- requests

    async def test_a_request_is_answered_by_whoever_takes_it(
        self, transport_factory: TransportFactory, transport: Transport, service: str
    ) -> None:
        other = await transport_factory(service)
        inbox = await other.inbox(f"{service}.commands", prefetch=10)
        asked = command(1)
        asking = asyncio.create_task(transport.request(asked, DEADLINE))
        (delivery,) = await take(inbox, 1)
        assert delivery.frame._replace(reply_to="") == asked
        body = bytes(range(256)) * 2000  # more than one AMQP frame holds
        assert await other.publish([reply_to(delivery, body)]) == {}
        answer = await asking
        assert (answer.id, answer.name, answer.body) == (asked.id, "answer", body)
        assert answer.headers == event(0).headers

    async def test_many_requests_at_once_each_get_their_own_answer(
        self, transport: Transport, service: str
    ) -> None:
        """Even those with the same id: the answer to one attempt does not answer another."""
        inbox = await transport.inbox(f"{service}.commands", prefetch=100)
        same = [command(1)] * 3
        frames = [*same, *(command(number) for number in range(2, 60))]
        asking = [asyncio.create_task(transport.request(frame, DEADLINE)) for frame in frames]
        deliveries = await take(inbox, len(frames))
        bodies = [f"{number}" for number in range(len(frames))]
        for delivery, body in reversed(list(zip(deliveries, bodies, strict=True))):
            await transport.publish([reply_to(delivery, body.encode())])
        answers = await asyncio.gather(*asking)
        assert [answer.body.decode() for answer in answers] == bodies

    async def test_a_request_without_an_answer_ends_in_time_and_a_late_one_is_dropped(
        self, transport: Transport, service: str
    ) -> None:
        inbox = await transport.inbox(f"{service}.commands", prefetch=10)
        with pytest.raises(OutcomeUnknown, match=f"repeat it with id='{command(1).id}'") as raised:
            await transport.request(command(1), 0.05)
        assert raised.value.id == command(1).id
        (late,) = await take(inbox, 1)
        assert await transport.publish([reply_to(late, b"late")]) == {}
        asking = asyncio.create_task(transport.request(command(1), DEADLINE))
        (again,) = await take(inbox, 1)
        await transport.publish([reply_to(late, b"late"), reply_to(again, b"in time")])
        assert (await asking).body == b"in time"

    async def test_a_request_that_was_delayed_or_came_again_can_still_be_answered(
        self, transport: Transport, service: str
    ) -> None:
        queue = f"{service}.commands"
        inbox = await transport.inbox(queue, prefetch=10)
        asking = asyncio.create_task(transport.request(command(1), DEADLINE))
        await inbox.release(await take(inbox, 1))
        (again,) = await take(inbox, 1)
        delayed = again.frame._replace(address=f"delay.{DELAYS[0]}s", topic=queue)
        assert await transport.publish([delayed], must_route=True) == {}
        (later,) = await take(inbox, 1)
        await transport.publish([reply_to(later, b"at last")])
        assert (await asking).body == b"at last"

    async def test_a_request_that_nobody_can_take_is_an_error(self, transport: Transport) -> None:
        with pytest.raises(Unroutable):
            await transport.request(event(1, topic="other.Thing.0"), DEADLINE)
        with pytest.raises(InvalidMessage):
            await transport.request(command(1)._replace(body=b" " * (MAX_BODY + 1)), DEADLINE)

    async def test_an_answer_to_one_who_is_gone_is_dropped(
        self, transport_factory: TransportFactory, transport: Transport, service: str
    ) -> None:
        other = await transport_factory(service)
        asking = asyncio.create_task(other.request(command(1), DEADLINE))
        inbox = await transport.inbox(f"{service}.commands", prefetch=10)
        (delivery,) = await take(inbox, 1)
        await other.close()
        with pytest.raises(OutcomeUnknown, match="connection was lost"):
            await asking
        assert await transport.publish([reply_to(delivery, b"")]) == {}
        with pytest.raises(TransportUnavailable):
            await other.request(command(2), DEADLINE)

    # -- several consumers

    async def test_a_single_consumer_hands_over_in_order(
        self, transport_factory: TransportFactory, transport: Transport, service: str, queue: Queue
    ) -> None:
        other = await transport_factory(service)
        active = await transport.inbox(queue.name, prefetch=5)
        waiting = await other.inbox(queue.name, prefetch=100)
        assert await transport.consumers(queue.name) >= 1  # who stands by may not be counted
        await transport.publish([event(n) for n in range(10)])
        deliveries = await take(active, 5)
        await active.acknowledge(deliveries[:2])
        await transport.close()
        assert numbers(await take(waiting, 8)) == [2, 3, 4, 5, 6, 7, 8, 9]

    async def test_consumers_of_another_queue_share_its_messages(
        self, transport_factory: TransportFactory, transport: Transport, service: str
    ) -> None:
        queue = command_queue(service)
        other = await transport_factory(service)
        inboxes = [await each.inbox(queue.name, prefetch=5) for each in (transport, other)]
        commands = [event(n, address=queue.address, topic=queue.topics[0]) for n in range(10)]
        await transport.publish(commands)
        taken = [numbers(await take(inbox, 5)) for inbox in inboxes]
        assert sorted(map(int, taken[0] + taken[1])) == list(range(10))

    # -- life

    async def test_declaring_twice_changes_nothing(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        await transport.publish([event(1)])
        await transport.declare(Topology(service, (queue, command_queue(service))))
        await eventually(lambda: _depth(transport, queue.name, 1), "the message is still there")

    async def test_declaring_otherwise_is_a_mismatch_that_names_the_queue(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        other = queue._replace(single_consumer=False)
        with pytest.raises(TopologyMismatch, match=queue.name):
            await transport.declare(Topology(service, (other,)))
        assert await transport.publish([event(1)], must_route=True) == {}

    async def test_stop_leaves_what_has_arrived_to_be_taken_and_settled(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=3)
        await transport.publish([event(n) for n in range(5)])
        first = await take(inbox, 1)
        await eventually(lambda: _depth(transport, queue.name, 2), "the prefetch is full")
        await inbox.stop()
        rest = await inbox.take(100)
        assert numbers(rest) == [1, 2]
        assert await inbox.take(100) == []
        await inbox.stop()  # twice is fine
        await inbox.acknowledge(first + rest)
        await eventually(lambda: _consumers(transport, queue.name, 0), "nobody consumes")
        await inbox.close()
        later = await transport.inbox(queue.name, prefetch=100)
        assert numbers(await take(later, 2)) == [3, 4]

    async def test_stop_wakes_whoever_waits(self, transport: Transport, queue: Queue) -> None:
        inbox = await transport.inbox(queue.name, prefetch=3)
        waiting = asyncio.create_task(inbox.take(10))
        await asyncio.sleep(0)
        await inbox.stop()
        async with asyncio.timeout(DEADLINE):
            assert await waiting == []

    async def test_a_cancelled_take_loses_nothing(self, transport: Transport, queue: Queue) -> None:
        inbox = await transport.inbox(queue.name, prefetch=3)
        waiting = asyncio.create_task(inbox.take(10))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await transport.publish([event(1)])
        assert numbers(await take(inbox, 1)) == [1]

    async def test_a_queue_that_is_not_there_is_empty(self, transport: Transport) -> None:
        assert await transport.depth("nowhere") == 0
        assert await transport.consumers("nowhere") == 0

    async def test_a_deleted_queue_is_gone_with_what_was_in_it(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        await transport.publish([event(1)])
        await transport.delete([queue.name, f"{service}.nowhere"])
        failures = await transport.publish([event(2)], must_route=True)
        assert isinstance(failures[event(2).id], Unroutable)
        await transport.declare(Topology(service, (queue,)))
        assert await transport.depth(queue.name) == 0
        assert not await transport.publish([event(3)], must_route=True)

    async def test_an_event_whose_queue_was_deleted_does_not_pass_for_published(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        await transport.delete([queue.name, f"{service}.commands"])
        await until_published(transport, event(1))
        assert await transport.publish([event(2, topic="nobody.Cares.1")]) == {}
        inbox = await transport.inbox(queue.name, prefetch=10)
        assert numbers(await take(inbox, 1)) == [1]
        await until_published(transport, command(3), must_route=True)

    async def test_what_is_missing_is_restored_and_told(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        topology = Topology(service, (queue, command_queue(service)))
        assert await transport.restore(topology) == []
        await transport.delete([queue.name])
        assert await transport.restore(topology) == [f"queue {queue.name}"]
        assert await transport.publish([event(1)], must_route=True) == {}

    async def test_queues_that_had_to_be_made_anew_are_told_once(
        self, transport: Transport, service: str, queue: Queue
    ) -> None:
        mails = handler_queue(service, "mails", ["JobPosted"])
        topology = Topology(service, (queue, mails, command_queue(service)))
        await transport.declare(topology)
        transport.made_anew()
        await transport.declare(topology)
        assert transport.made_anew() == []
        await transport.delete([queue.name, mails.name])
        await transport.declare(topology)
        assert transport.made_anew() == [mails.name]
        assert transport.made_anew() == []

    async def test_an_open_transport_says_so(self, transport: Transport) -> None:
        assert transport.healthy
        assert transport.description
        await transport.close()
        assert not transport.healthy

    async def test_a_reopened_inbox_consumes_by_a_new_generation(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=2)
        await transport.publish([event(n) for n in range(3)])
        old = await take(inbox, 2)
        for connection in (False, True):
            assert inbox.consuming
            await inbox.reopen(connection=connection)
            new = await take(inbox, 2)
            assert numbers(new) == [0, 1]
            assert new[0].redelivered
            assert new[0].generation > old[0].generation
            assert inbox.generation == new[0].generation
            await inbox.acknowledge(old)  # too late: they have come again
            await eventually(lambda: _depth(transport, queue.name, 1), "nothing was settled")
            await eventually(lambda: _consumers(transport, queue.name, 1), "it consumes once")
            old = new
        await inbox.acknowledge(new)
        assert numbers(await take(inbox, 1)) == [2]

    async def test_a_stopped_inbox_is_not_reopened(
        self, transport: Transport, queue: Queue
    ) -> None:
        inbox = await transport.inbox(queue.name, prefetch=2)
        await inbox.stop()
        assert not inbox.consuming
        await inbox.reopen()
        await inbox.reopen(connection=True)
        await transport.publish([event(1)])
        await nothing_more_taken(transport, inbox)

    async def test_closing_twice_is_fine(self, transport: Transport, queue: Queue) -> None:
        inbox = await transport.inbox(queue.name, prefetch=1)
        await inbox.close()
        await inbox.close()
        await transport.close()
        await transport.close()

    async def test_a_closed_transport_does_nothing_and_says_so(
        self, transport: Transport, queue: Queue
    ) -> None:
        await transport.close()
        failures = await transport.publish([event(1)])
        assert isinstance(failures[event(1).id], TransportUnavailable)
        for refused in (
            transport.inbox(queue.name, prefetch=1),
            transport.depth(queue.name),
            transport.consumers(queue.name),
            transport.declare(Topology(queue.name, ())),
        ):
            with pytest.raises(TransportUnavailable):
                await refused

    async def test_a_closed_transport_may_be_opened_again(
        self, transport: Transport, queue: Queue
    ) -> None:
        await transport.close()
        await transport.open()
        assert await transport.publish([event(1)], must_route=True) == {}
        inbox = await transport.inbox(queue.name, prefetch=1)
        assert numbers(await take(inbox, 1)) == [1]

    async def test_closing_waits_for_what_is_being_published(self, transport: Transport) -> None:
        publishing = asyncio.create_task(transport.publish([event(n) for n in range(100)]))
        await asyncio.sleep(0)
        await transport.close()
        assert await publishing == {}


async def _depth(transport: Transport, queue: str, expected: int) -> bool:
    return await transport.depth(queue) == expected


async def _consumers(transport: Transport, queue: str, expected: int) -> bool:
    return await transport.consumers(queue) == expected


async def _ready(transport: Transport, inbox: Inbox, expected: int) -> bool:
    return await _depth(transport, inbox.queue, expected)

"""A queue that has other properties is made anew with all that was in it, wherever that ends."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelPreconditionFailed
from yarl import URL

from bus import Settings, TransportUnavailable, Worker
from bus.operate.topology.apply import Applying
from bus.operate.topology.plan import Planning, alone_of
from bus.operate.topology.prune import Pruning
from bus.transports.rabbitmq.connection import RabbitSession, connect
from bus.transports.rabbitmq.moving import draining
from bus.transports.rabbitmq.moving.anew import Moved, move
from bus.transports.rabbitmq.planning.wanted import WantedQueue
from tests.fault.applying import MANY, Applies, Step, publishing
from tests.fault.conftest import channel_of
from tests.fault.spoiling import control
from tests.service.wallet import Diary, Pay, build
from tests.waiting import patience, until
from tools.services import RabbitMQNode

CLASSIC: Mapping[str, Any] = {}
SHORT: Mapping[str, Any] = {"x-queue-type": "quorum", "x-max-length": 1000}


@pytest.fixture
def settings(real_settings: Settings, broker: RabbitMQNode) -> Settings:
    return real_settings.model_copy(update={"amqp_url": broker.url})


async def spoil(
    channel: AbstractChannel, queue: str, arguments: Mapping[str, Any], *bindings: tuple[str, str]
) -> None:
    """Makes a queue anew with other properties, bound as it was."""
    await channel.queue_delete(queue)
    spoilt = await channel.declare_queue(queue, durable=True, arguments=dict(arguments))
    for exchange, topic in bindings:
        await spoilt.bind(exchange, topic)


def message(number: int) -> Message:
    return Message(
        b"%d" % number,
        message_id=f"m{number}",
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={"kept": number},
    )


async def bodies(channel: AbstractChannel, queue: str) -> list[int]:
    """All that is in a queue, which is empty then."""
    found = []
    got = await channel.get_queue(queue)
    while taken := await got.get(fail=False, no_ack=True):
        assert taken.headers["kept"] == int(taken.body)
        assert taken.message_id == f"m{int(taken.body)}"
        found.append(int(taken.body))
    return found


# -- a service


@pytest.mark.parametrize("arguments", [CLASSIC, SHORT], ids=["classic", "other arguments"])
async def test_while_events_come_in_none_is_lost(
    arguments: Mapping[str, Any],
    broker: RabbitMQNode,
    settings: Settings,
    unique: str,
    diary: Diary,
) -> None:
    queue = f"{unique}.thanking"
    async with build(settings, Diary(), unique) as api:
        async with channel_of(broker) as channel:
            await spoil(channel, queue, arguments, (f"{unique}.events", "*.Paid.*"))

        async def pay(numbers: range) -> None:
            for number in numbers:
                await api.execute(Pay(wallet_id=f"w{number}", amount=1))

        await pay(range(40))
        paying = asyncio.create_task(pay(range(40, 120)))
        async with build(settings, Diary(), unique).looking() as looking:
            applied = await Applying(looking).apply()
            await paying
            assert applied.moved[queue].messages >= 40
            assert applied.moved[queue].gone == 0
            assert not (await Planning(looking).plan()).differs()
    async with build(settings, diary, unique) as bus, Worker(bus):
        await until(lambda: len(set(diary.seen)) == 120, "all are handled", within=60)


async def test_queued_commands_are_moved_too_which_are_in_no_log(
    broker: RabbitMQNode, settings: Settings, unique: str, diary: Diary
) -> None:
    name = f"{unique}.commands"
    async with build(settings, Diary(), unique) as api:
        async with channel_of(broker) as channel:
            await spoil(channel, name, CLASSIC, (name, "command"))
        for _ in range(20):
            await api.send(Pay(wallet_id="a", amount=1))
        async with build(settings, Diary(), unique).looking() as looking:
            assert (await Applying(looking).apply()).moved[name].messages == 20
    async with build(settings, diary, unique) as bus, Worker(bus):
        await until(lambda: len(set(diary.seen)) == 20, "each is carried out", within=60)


async def ignored(taken: AbstractIncomingMessage) -> None:
    """Consumes, and settles nothing."""


async def test_a_queue_that_is_consumed_is_left_alone_with_whom_to_stop(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    name = f"{unique}.thanking"
    async with build(settings, Diary(), unique):
        pass
    async with channel_of(broker) as channel, build(settings, Diary(), unique).looking() as bus:
        await spoil(channel, name, CLASSIC)
        queue = await channel.get_queue(name)
        tag = await queue.consume(ignored)
        with pytest.raises(TransportUnavailable, match=r"is consumed \(1\).*Stop the workers"):
            await Applying(bus).apply()
        await queue.cancel(tag)
        await Applying(bus).apply()
        assert not (await Planning(bus).plan()).differs()


async def test_a_delayed_message_keeps_the_queue_that_it_comes_back_to(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    """Its delay is held in a queue without a time to live: it would never come back."""
    delay, queue = f"{unique}.delay.1s", f"{unique}.history.requests"
    async with build(settings, Diary(), unique):
        pass
    async with channel_of(broker) as channel, build(settings, Diary(), unique).looking() as bus:
        await spoil(channel, delay, CLASSIC, (delay, ""))
        exchange = await channel.get_exchange(delay)
        await exchange.publish(message(1), queue)
        assert (await Applying(bus).apply()).moved.keys() == {delay}
        await until(lambda: depth(channel, queue), "it came back", within=30)
        assert await bodies(channel, queue) == [1]


async def depth(channel: AbstractChannel, queue: str) -> int:
    found = await channel.declare_queue(queue, passive=True)
    return found.declaration_result.message_count or 0


async def test_while_a_delay_holds_messages_the_queue_stands_aside_and_the_plan_says_so(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    name, delay = f"{unique}.thanking", f"{unique}.delay.600s"
    async with build(settings, Diary(), unique):
        pass
    async with channel_of(broker) as channel, build(settings, Diary(), unique).looking() as bus:
        await spoil(channel, name, CLASSIC, (f"{unique}.events", "*.Paid.*"))
        await channel.default_exchange.publish(message(1), name)
        exchange = await channel.get_exchange(delay)
        await exchange.publish(message(2), name)
        with pytest.raises(TransportUnavailable, match="1 messages wait in the delays of"):
            await Applying(bus).apply(patience=0)
        whys = [c.why for c in (await Planning(bus).plan()).changes if c.name == name]
        assert f"it was being moved, and {name}.moving holds messages of it" in whys
        waiting = await channel.get_queue(delay)
        await waiting.purge()
        await channel.default_exchange.publish(message(2), name)  # as if the delay were over
        applied = await Applying(bus).apply()
        assert applied.moved[name].messages == 2
        assert sorted(await bodies(channel, name)) == [1, 2]
        assert not (await Planning(bus).plan()).differs()


# -- ended at each step


class Killed(Exception):
    pass


class Dying:
    """A session that is cut off at the call of that number, as when its process is killed."""

    def __init__(self, session: RabbitSession, calls: int) -> None:
        self.session = session
        self.left = calls

    async def channel(self, *, confirms: bool) -> Any:
        return DyingChannel(await self.session.channel(confirms=confirms), self)


class DyingChannel:
    def __init__(self, channel: Any, dying: Dying) -> None:
        self._channel = channel
        self._dying = dying

    def __getattr__(self, name: str) -> Any:
        self._dying.left -= 1
        if self._dying.left < 0:
            raise Killed(name)
        return getattr(self._channel, name)


@asynccontextmanager
async def session_of(broker: RabbitMQNode) -> AsyncIterator[RabbitSession]:
    session = await connect(URL(broker.url), 5.0)
    try:
        yield session
    finally:
        await session.close()


async def test_a_move_that_is_killed_at_any_step_loses_nothing_and_is_ended_by_the_next(
    broker: RabbitMQNode, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "SILENCE", 0.1)
    topic = f"{unique}.#"
    wanted = WantedQueue(unique, {"x-queue-type": "quorum"}, [("amq.topic", topic)])
    steps, was_over = 0, False
    async with channel_of(broker) as channel:
        exchange = await channel.get_exchange("amq.topic")
        while not was_over:
            await spoil(channel, unique, SHORT, ("amq.topic", topic))
            for number in range(3):
                await exchange.publish(message(number), unique)
            was_over = await moved_by(broker, wanted, steps)
            await exchange.publish(message(3), unique)  # while it stands as it was left
            assert (await finished(broker, wanted)).gone == 0
            assert {*await bodies(channel, unique)} == {0, 1, 2, 3}, f"after step {steps}"
            steps += 1
        await channel.queue_delete(unique)
    assert steps > 30


async def moved_by(broker: RabbitMQNode, wanted: WantedQueue, calls: int) -> bool:
    """Moves, cut off after so many calls; returns whether it was over before that."""
    async with session_of(broker) as session:
        dying: Any = Dying(session, calls)
        try:
            await move(dying, wanted, is_other=True)
        except Killed:
            return False
        return True


async def finished(broker: RabbitMQNode, wanted: WantedQueue) -> Moved:
    """Moves once more, by what is at the broker now."""
    is_other = False
    async with session_of(broker) as session:
        channel = await session.channel(confirms=False)
        try:
            await channel.queue_declare(wanted.name, durable=True, arguments=dict(wanted.arguments))
        except ChannelPreconditionFailed:
            is_other = True
        return await move(session, wanted, is_other=is_other)


# -- a process that is killed


async def test_apply_killed_before_any_step_while_events_come_in_loses_none(
    broker: RabbitMQNode,
    settings: Settings,
    unique: str,
    diary: Diary,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kill -9 of the command: the next one goes on, and every event is handled."""
    monkeypatch.setattr(draining, "SILENCE", 0.1)
    queue = f"{unique}.thanking"
    applies = Applies(settings, unique)
    async with (
        build(settings, Diary(), unique) as api,
        channel_of(broker) as channel,
        publishing(api) as publisher,
    ):
        steps: list[Step | None] = [None]
        for step in steps:
            paid, seen = publisher.paid, len(diary.seen)
            await spoil(channel, queue, CLASSIC, (f"{unique}.events", "*.Paid.*"))
            await publisher.go_on(MANY)
            if step is None:
                steps += await applies.steps(queue, f"{queue}.moving")
            else:
                await applies.killed(step)
                await publisher.go_on(5)
                async with build(settings, Diary(), unique).looking() as looking:
                    assert (await Applying(looking).apply()).moved[queue].gone == 0
            await publisher.rest()
            await all_handled(settings, diary, unique, publisher.paid, f"killed before {step}")
            twice = len(diary.seen) - seen - (publisher.paid - paid)
            assert twice <= draining.PREFETCH, step
    assert len(steps) > 15


async def all_handled(settings: Settings, diary: Diary, unique: str, paid: int, when: str) -> None:
    async with build(settings, diary, unique) as bus:
        assert not (await Planning(bus).plan()).differs(), when
        async with Worker(bus, only=["thanking"]):
            await until(lambda: len({*diary.seen}) == paid, f"{when}: all are handled", within=60)


# -- by somebody else


class Rebound:
    """A session beside which a process that declares binds a queue again, as soon as it is
    unbound for the first time."""

    def __init__(self, session: RabbitSession, queue: str) -> None:
        self.session = session
        self.queue = queue
        self.is_over = False

    async def channel(self, *, confirms: bool) -> Any:
        return ReboundChannel(await self.session.channel(confirms=confirms), self)


class ReboundChannel:
    def __init__(self, channel: Any, rebound: Rebound) -> None:
        self._channel = channel
        self._rebound = rebound

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def queue_unbind(self, queue: str, exchange: str, topic: str) -> None:
        await self._channel.queue_unbind(queue, exchange, topic)
        if queue == self._rebound.queue and not self._rebound.is_over:
            self._rebound.is_over = True
            await self._channel.queue_bind(queue, exchange, topic)


async def test_a_delay_that_is_bound_again_while_it_is_moved_does_not_go_round_for_ever(
    broker: RabbitMQNode, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put aside by its exchange comes back to it then."""
    monkeypatch.setattr(draining, "SILENCE", 0.1)
    wanted = WantedQueue(unique, {"x-queue-type": "quorum"}, [(unique, "")])
    async with channel_of(broker) as channel, session_of(broker) as session:
        exchange = await channel.declare_exchange(unique, "fanout", durable=True)
        await spoil(channel, unique, SHORT, (unique, ""))
        for number in range(3):
            await exchange.publish(message(number), "back")
        rebound: Any = Rebound(session, unique)
        async with asyncio.timeout(60 * patience()):
            assert (await move(rebound, wanted, is_other=True)).gone == 0
        assert {*await bodies(channel, unique)} == {0, 1, 2}
        await channel.queue_delete(unique)
        await channel.exchange_delete(unique)


async def test_what_a_move_of_another_release_has_put_aside_is_brought_back(
    broker: RabbitMQNode, unique: str
) -> None:
    """It has declared the queue aside with the arguments of that release."""
    wanted = WantedQueue(unique, {"x-queue-type": "quorum"}, [("amq.topic", unique)])
    async with channel_of(broker) as channel, session_of(broker) as session:
        await spoil(channel, unique, CLASSIC, ("amq.topic", unique))
        await channel.declare_queue(f"{unique}.moving", durable=True, arguments=dict(SHORT))
        await channel.default_exchange.publish(message(0), f"{unique}.moving")
        await channel.default_exchange.publish(message(1), unique)
        assert (await move(session, wanted, is_other=True)).messages == 2
        assert {*await bodies(channel, unique)} == {0, 1}
        await channel.queue_delete(unique)


async def test_a_broker_under_an_alarm_ends_the_move_with_what_to_do_and_the_next_goes_on(
    broker: RabbitMQNode, settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{unique}.thanking"
    async with build(settings, Diary(), unique):
        pass
    async with channel_of(broker) as channel, build(settings, Diary(), unique).looking() as bus:
        await spoil(channel, name, CLASSIC, (f"{unique}.events", "*.Paid.*"))
        await channel.default_exchange.publish(message(1), name)
        await control(broker, "set_vm_memory_high_watermark", "0.000001")
        try:
            with monkeypatch.context() as patch:
                patch.setattr(draining, "STALLED", 3.0)
                async with asyncio.timeout(60 * patience()):
                    with pytest.raises(TransportUnavailable, match=r"diagnostics alarms\)"):
                        await Applying(bus).apply()
        finally:
            await control(broker, "set_vm_memory_high_watermark", "0.4")
        assert (await Applying(bus).apply()).moved[name].gone == 0
        assert {*await bodies(channel, name)} == {1}


async def test_two_that_apply_or_prune_at_once_do_not_take_messages_from_each_other(
    broker: RabbitMQNode, settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{unique}.thanking"
    async with build(settings, Diary(), unique):
        pass
    entered, leaves = asyncio.Event(), asyncio.Event()

    async def at_work() -> str:
        entered.set()
        await leaves.wait()
        return "done"

    async with channel_of(broker) as channel, build(settings, Diary(), unique).looking() as bus:
        await spoil(channel, name, CLASSIC, (f"{unique}.events", "*.Paid.*"))
        first = asyncio.create_task(alone_of(bus.runtime, at_work, "applying"))
        await entered.wait()
        with monkeypatch.context() as patch:
            patch.setattr("bus.transports.rabbitmq.moving.alone.PAUSES", (0.1,))
            for other in (Applying(bus).apply, partial(Pruning(bus).prune, [])):
                with pytest.raises(TransportUnavailable, match=r"another `bus topology apply`"):
                    await other()
        leaves.set()
        assert await first == "done"
        assert (await Applying(bus).apply()).moved.keys() == {name}

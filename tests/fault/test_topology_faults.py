"""What becomes of events while exchanges, queues, bindings and rights are taken away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bus import Bus, ConfigurationError, Settings, TopologyMismatch, Worker
from bus.recovery.losses import Losses
from bus.transports.rabbitmq import declaring
from bus.transports.rabbitmq.connection import RabbitSession
from bus.transports.rabbitmq.declare import declare
from bus.transports.topology import Topology
from tests.fault.conftest import channel_of
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until
from tools.services import RabbitMQNode

PAYMENTS = 30


@pytest.fixture
def settings(real_settings: Settings, broker: RabbitMQNode) -> Settings:
    return real_settings.model_copy(update={"amqp_url": broker.url, "sweep_every": 1.0})


@pytest.fixture
async def api(settings: Settings, unique: str, diary: Diary) -> AsyncIterator[Bus]:
    """A process that only writes."""
    async with build(settings, diary, unique) as bus:
        yield bus


async def control(broker: RabbitMQNode, *words: str) -> None:
    await asyncio.to_thread(broker.control, *words)


async def pay(bus: Bus, wallet: str = "w") -> None:
    for number in range(PAYMENTS):
        await bus.execute(Pay(wallet_id=f"{wallet}{number % 3}", amount=1))


async def told(bus: Bus, part: str, word: str) -> bool:
    return any(p.part == part and word in p.what for p in (await bus.health()).problems)


async def expect_all_handled(settings: Settings, service: str, diary: Diary, count: int) -> None:
    """None comes twice but where some were missed, and sent again, which is told."""
    async with build(settings, diary, service) as bus, Worker(bus):
        await until(lambda: len(set(diary.seen)) >= count, f"{count} events are handled", within=60)
        if len(diary.seen) > len(set(diary.seen)):
            await until(lambda: told(bus, "lost queues", "was sent again"), "it is told why")
    assert len(set(diary.seen)) == count


async def test_into_a_broker_that_came_back_empty_nothing_is_published_before_its_queues_are_there(
    broker: RabbitMQNode, settings: Settings, api: Bus, diary: Diary, unique: str
) -> None:
    await control(broker, "stop_app")
    try:
        await control(broker, "reset")
        await pay(api, "away")
    finally:
        await control(broker, "start_app")
    await pay(api, "back")
    await until(lambda: api.runtime.transport.healthy, "it is connected again")
    await expect_all_handled(settings, unique, diary, 2 * PAYMENTS)


@pytest.mark.parametrize("another_makes_it", [False, True])
async def test_an_exchange_that_is_deleted_loses_no_event(
    broker: RabbitMQNode,
    settings: Settings,
    api: Bus,
    diary: Diary,
    unique: str,
    another_makes_it: bool,
) -> None:
    """A follower, or an older release, makes it again without any queue."""
    async with channel_of(broker) as channel:
        await channel.exchange_delete(f"{unique}.events")
        if another_makes_it:
            await channel.declare_exchange(f"{unique}.events", "topic", durable=True)
    await pay(api)
    await expect_all_handled(settings, unique, diary, PAYMENTS)


async def test_events_that_reach_one_queue_and_not_yet_another_are_sent_again(
    broker: RabbitMQNode,
    settings: Settings,
    api: Bus,
    diary: Diary,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bindings come back one by one, and the broker confirms what any of them takes."""
    binding, bound = asyncio.Event(), asyncio.Event()

    async def declare_slowly(session: RabbitSession, topology: Topology) -> dict[str, str]:
        channel = await session.channel(confirms=False)
        for queue in topology.queues:
            for topic in queue.topics if queue.single_consumer else ():
                await channel.queue_bind(queue.name, f"{unique}.events", topic)
        binding.set()
        await bound.wait()
        return await declare(session, topology)

    async def known() -> bool:
        return "thanking" in await Losses(api.runtime).read()

    async def only_the_first_waits() -> bool:
        log = api.runtime.event_log
        return len(await log.pending(log.now(), PAYMENTS)) == 1

    await until(known, "the subscription is known")
    monkeypatch.setattr(declaring, "declare", declare_slowly)
    async with channel_of(broker) as channel:
        await channel.exchange_delete(f"{unique}.events")
        await channel.declare_exchange(f"{unique}.events", "topic", durable=True)
    await api.execute(Pay(wallet_id="w", amount=1))
    await asyncio.wait_for(binding.wait(), 30)
    await pay(api)
    await until(only_the_first_waits, "all others are confirmed: the projection's queue has them")
    bound.set()
    await expect_all_handled(settings, unique, diary, PAYMENTS + 1)


async def test_a_queue_that_is_deleted_is_made_again_by_who_only_publishes_and_told(
    broker: RabbitMQNode, settings: Settings, api: Bus, diary: Diary, unique: str
) -> None:
    async with channel_of(broker) as channel:
        await channel.queue_delete(f"{unique}.thanking")
    await until(lambda: told(api, "topology", f"queue {unique}.thanking"), "it is missed")
    await pay(api)
    await expect_all_handled(settings, unique, diary, PAYMENTS)


async def test_a_binding_that_is_removed_comes_back(
    broker: RabbitMQNode, settings: Settings, api: Bus, diary: Diary, unique: str
) -> None:
    name = f"{unique}.thanking"

    async def arrives() -> bool:
        await api.execute(Pay(wallet_id="w", amount=1))
        return await api.runtime.transport.depth(name) > 0

    async with channel_of(broker) as channel:
        queue = await channel.get_queue(name)
        await queue.unbind(f"{unique}.events", "*.Paid.*")
        await until(arrives, "events come to the queue again")


async def test_a_classic_queue_of_that_name_is_refused_told_and_not_consumed(
    broker: RabbitMQNode, settings: Settings, api: Bus, diary: Diary, unique: str
) -> None:
    name = f"{unique}.thanking"
    async with Worker(api), channel_of(broker) as channel:
        await channel.queue_delete(name)
        await channel.declare_queue(name, durable=True)
        await until(lambda: told(api, f"queue {name}", "exists with other properties"), "told")
        await pay(api)

        async def holds_them() -> bool:
            return await api.runtime.transport.depth(name) >= PAYMENTS

        await until(holds_them, "its events are kept, bound to it all the same")
        assert diary.seen == []
        await channel.queue_delete(name)

        async def consumed() -> bool:
            return await api.runtime.transport.consumers(name) == 1

        await until(consumed, "the right queue is there, and consumed")
        await pay(api, "later")
        await until(lambda: len(diary.seen) >= PAYMENTS, "it is consumed again")


# -- rights


@asynccontextmanager
async def user(broker: RabbitMQNode, name: str, *rights: str) -> AsyncIterator[str]:
    """A user with these rights; the URL to connect as."""
    await control(broker, "add_user", name, "secret")
    await control(broker, "set_permissions", name, *rights)
    try:
        yield broker.url.replace("guest:guest", f"{name}:secret")
    finally:
        await control(broker, "delete_user", name)


async def test_who_may_declare_nothing_runs_on_what_another_declared(
    broker: RabbitMQNode, settings: Settings, diary: Diary, unique: str
) -> None:
    own = rf"^{unique}\."
    async with user(broker, unique, "^$", rf"({own}|^amq\.default$)", own) as url:
        limited = settings.model_copy(update={"amqp_url": url, "declare": "never"})
        with pytest.raises(TopologyMismatch, match=rf"{unique}\.thanking.*bus topology"):
            async with build(limited, diary, unique):
                pass
        async with build(settings, diary, unique):
            pass
        async with build(limited, diary, unique) as bus, Worker(bus):
            await pay(bus)
            handled = "handled by who may not declare"
            await until(lambda: len(set(diary.seen)) == PAYMENTS, handled)
            async with channel_of(broker) as channel:
                await channel.queue_delete(f"{unique}.commands")
            await until(lambda: told(bus, "topology", f"queue {unique}.commands"), "it is told")
            assert await bus.runtime.transport.depth(f"{unique}.commands") == 0


async def test_a_right_that_is_missing_is_named(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    own = rf"^{unique}\."
    async with user(broker, unique, own, own, own) as url:
        limited = settings.model_copy(update={"amqp_url": url})
        with pytest.raises(ConfigurationError, match=r"write to amq\.default.*set_permissions"):
            async with build(limited, Diary(), unique):
                pass


async def test_an_exchange_that_had_to_be_made_again_counts_as_a_loss_of_handlers(
    broker: RabbitMQNode, api: Bus, unique: str
) -> None:
    """While it is being bound again, others publish to it."""
    runtime = api.runtime

    async def known() -> bool:
        found = (await Losses(runtime).read()).get("thanking", {})
        return "quiet" in found and "lost" not in found

    async def lost() -> bool:
        return "lost" in (await Losses(runtime).read())["thanking"]

    await until(known, "the subscription is known")
    async with channel_of(broker) as channel:
        await channel.exchange_delete(f"{unique}.events")
    await until(lost, "its loss is noted")

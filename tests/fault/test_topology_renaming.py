"""A renamed subscription has all that it had under its old name, and does nothing twice."""

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from bus import Bus, ConfigurationError, DeadLetters, Settings, TransportUnavailable, Worker
from bus.common import clock
from bus.operate.events import Events
from bus.operate.topology.apply import Applied, Applying
from bus.operate.topology.plan import Planning
from bus.transports.rabbitmq.moving import draining
from tests.fault.applying import MANY, Applies, Step, publishing
from tests.fault.conftest import channel_of
from tests.fault.renamed import build
from tests.service.mailing import all_of
from tests.service.wallet import Pay
from tests.waiting import until
from tools.services import RabbitMQNode

RENAMES = {"tallies": "counts", "echoes": "answers"}


@pytest.fixture
def settings(real_settings: Settings, broker: RabbitMQNode) -> Settings:
    return real_settings.model_copy(update={"amqp_url": broker.url})


def renamed(settings: Settings, service: str) -> Bus:
    """The release in which both routers have other names."""
    return build(settings, service, tallies="counts", echoes="answers", is_mended=True)


async def pay(bus: Bus, wallets: range, mood: str = "") -> None:
    for number in wallets:
        await bus.execute(Pay(wallet_id=f"w{number}", amount=1, mood=mood))


async def counted(bus: Bus) -> Counter[str]:
    """How often the payments of each wallet were counted."""
    return Counter({row["_id"]: row["times"] for row in await all_of(bus, "counted")})


async def echoed(bus: Bus) -> Counter[str]:
    """How many echoes of each wallet the log holds."""
    found: Counter[str] = Counter()
    async for stored in bus.runtime.event_log.every():
        found.update(e.data["of"] for e in stored.commit.events if e.name == "Echoed")
    return found


async def applied(settings: Settings, service: str, **renames: str) -> Applied:
    async with renamed(settings, service).looking() as looking:
        return await Applying(looking).apply(renames=renames or RENAMES)


def each(wallets: range) -> Counter[str]:
    return Counter(f"wallet-w{number}" for number in wallets)


async def test_what_a_renamed_subscription_has_is_handled_once_under_its_new_name(
    settings: Settings, unique: str
) -> None:
    """What the old name handled is not handled again, though it comes again: by the marks of who
    has a session, and by the log of who records."""
    began = clock.now()
    async with build(settings, unique) as old:
        await pay(old, range(10))
        async with Worker(old):
            await until(lambda: over(old, 10), "ten are handled under the old names")
        for name in RENAMES:  # as if the acknowledgements were lost
            assert (await Events(old).republish(to=name, since=began)).events == 10
        await pay(old, range(10, 30))

    outcome = await applied(settings, unique)
    assert {name: (r.messages, r.gone) for name, r in outcome.renamed.items()} == {
        "tallies": (30, 0),  # the marks are what tells them
        "echoes": (20, 0),
    }
    async with renamed(settings, unique) as bus:
        assert not (await Planning(bus).plan()).differs()
        async with Worker(bus):
            await until(lambda: over(bus, 30), "the others are handled under the new names")
            await Events(bus).republish(to="counts", since=began)
            await pay(bus, range(30, 31))
            await until(lambda: over(bus, 31), "and what comes after that")
            assert await counted(bus) == await echoed(bus) == each(range(31))


async def over(bus: Bus, wallets: int) -> bool:
    return len(await counted(bus)) == len(await echoed(bus)) == wallets


async def test_a_delayed_message_and_a_dead_letter_come_back_to_the_new_name(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    delay = f"{unique}.delay.600s"
    async with build(settings, unique) as old, Worker(old):
        await pay(old, range(1), mood="later")
        await pay(old, range(1, 2), mood="hopeless")
        await until(lambda: counted_letters(old), "one is given up")
        async with channel_of(broker) as channel:
            # Of another subscription, which must be left as it is.
            exchange = await channel.get_exchange(delay)
            await exchange.publish(Message(b"{}"), f"{unique}.tallies.other")
            await until(lambda: depth(channel, delay, 2), "and one is put off")
    outcome = (await applied(settings, unique, echoes="answers")).renamed["echoes"]
    assert (outcome.messages, outcome.letters) == (1, 1)
    async with channel_of(broker) as channel:
        queue = await channel.get_queue(delay)
        taken = [await queue.get(no_ack=True) for _ in range(2)]
        back = {message.routing_key: message for message in taken if message}
        assert back.keys() == {f"{unique}.answers", f"{unique}.tallies.other"}
        late = back[f"{unique}.answers"]
        again = Message(late.body, message_id=late.message_id, headers=late.headers, type=late.type)
        again.correlation_id, again.timestamp = late.correlation_id, late.timestamp
        await channel.default_exchange.publish(again, f"{unique}.answers")  # its delay is over
    async with renamed(settings, unique) as bus, Worker(bus):
        letters = DeadLetters(bus)
        assert [letter.queue for letter in await letters.list()] == [f"{unique}.answers"]
        assert (await letters.retry(all=True)).done
        await until(lambda: echoed_all(bus, 2), "both are handled")
        await until(lambda: no_letters(bus), "the letter is settled")
        assert await echoed(bus) == each(range(2))


async def test_what_the_database_has_of_a_name_whose_queue_is_gone_is_brought_too(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    async with build(settings, unique) as old, Worker(old):
        await pay(old, range(1), mood="hopeless")
        await until(lambda: counted_letters(old), "one is given up")
    async with channel_of(broker) as channel:
        await channel.queue_delete(f"{unique}.echoes")
    outcome = (await applied(settings, unique, echoes="answers")).renamed["echoes"]
    assert (outcome.was_there, outcome.letters) == (False, 1)
    async with renamed(settings, unique).looking() as bus:
        assert [letter.queue for letter in await DeadLetters(bus).list()] == [f"{unique}.answers"]


async def counted_letters(bus: Bus) -> int:
    return len(await DeadLetters(bus).list())


async def no_letters(bus: Bus) -> bool:
    return not await DeadLetters(bus).list()


async def echoed_all(bus: Bus, wallets: int) -> bool:
    return len(await echoed(bus)) == wallets


async def depth(channel: Any, queue: str, least: int) -> bool:
    found = await channel.declare_queue(queue, passive=True)
    return (found.declaration_result.message_count or 0) >= least


async def test_a_renaming_is_refused_while_the_old_queue_is_consumed(
    settings: Settings, unique: str
) -> None:
    async with build(settings, unique) as old:
        async with Worker(old):

            async def is_consumed() -> bool:
                return await old.runtime.transport.consumers(f"{unique}.tallies") == 1

            await until(is_consumed, "the old queue is consumed")
            with pytest.raises(TransportUnavailable, match="tallies is consumed"):
                await applied(settings, unique)
        outcome = await applied(settings, unique)
        assert all(each.was_there for each in outcome.renamed.values())
    again = await applied(settings, unique)
    assert not any(each.was_there for each in again.renamed.values())


async def test_a_renaming_that_makes_no_sense_is_refused(settings: Settings, unique: str) -> None:
    async with build(settings, unique):
        pass
    for renames, why in (
        ({"answers": "counts"}, "this release declares answers"),
        ({"dead": "counts"}, "this release declares dead"),
        ({"tallies": "count"}, "no router named 'count' handles events"),
        ({"tallies": "payments"}, "no router named 'payments' handles events"),
        ({"tallies": "commands"}, "queued commands belong to the service"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            await applied(settings, unique, **renames)


async def test_a_message_that_the_new_name_does_not_handle_is_kept_and_named(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    async with build(settings, unique) as old:
        await pay(old, range(1))
        async with channel_of(broker) as channel:
            foreign = Message(b"{}", message_id="x", type="Closed")
            await channel.default_exchange.publish(foreign, f"{unique}.tallies")
    with pytest.raises(ConfigurationError, match=r"tallies holds Closed, which .*counts does not"):
        await applied(settings, unique)
    async with channel_of(broker) as channel:
        left = await channel.get_queue(f"{unique}.tallies")
        await until(lambda: depth(channel, left.name, 1), "it is there")
        messages = [message async for message in taken(left)]
        assert "Closed" in {message.type for message in messages}
        for message in messages:
            await (message.ack() if message.type == "Closed" else message.nack())
    assert (await applied(settings, unique)).renamed["tallies"].was_there
    async with renamed(settings, unique) as bus, Worker(bus):
        await until(lambda: over(bus, 1), "what it handles was brought")


async def taken(queue: AbstractQueue) -> AsyncIterator[AbstractIncomingMessage]:
    while message := await queue.get(fail=False):
        yield message


async def test_a_renaming_killed_before_any_step_while_events_come_in_loses_none(
    settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the command; each time, a process of the former release goes on publishing."""
    monkeypatch.setattr(draining, "SILENCE", 0.1)
    steps: list[Step | None] = [None]
    paid = 0
    for number, step in enumerate(steps):
        old, new = f"echoes{number}", f"echoes{number + 1}"
        applies = Applies(settings, unique, ("tallies=tallies", f"echoes={new}"), (f"{old}={new}",))
        async with build(settings, unique, echoes=old) as api, publishing(api, paid) as publisher:
            await publisher.go_on(MANY)
            if step is None:
                found = await applies.steps(f"{unique}.{old}", f"{unique}.{new}")
                steps += [(words.replace(unique, "{0}"), count) for words, count in found]
            else:
                words = step[0].replace("echoes0", "{1}").replace("echoes1", "{2}")
                await applies.killed((words.format(unique, old, new), step[1]))
                await publisher.go_on(5)
            await publisher.rest()
            paid = publisher.paid
        async with build(settings, unique, echoes=new).looking() as looking:
            outcome = (await Applying(looking).apply(renames={old: new})).renamed[old]
            assert outcome.gone == 0, step
        async with build(settings, unique, echoes=new) as bus, Worker(bus):
            await until(partial(over, bus, paid), f"{step}: all are handled", within=60)
            assert await counted(bus) == await echoed(bus) == each(range(paid)), step
    assert len(steps) > 10

"""Events are sent from the log to one subscription once more; whoever handled them can tell."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import cast

import pytest

from bus import ConfigurationError, Settings, Unroutable, Worker
from bus.stores.collections import Comparable
from bus.stores.session import own_target
from tests.service.bookkeeping import Service, drained
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("late_relay")


@pytest.fixture
async def service(settings: Settings, unique: str) -> AsyncIterator[Service]:
    service = Service(settings, unique)
    async with service.bus:
        yield service


async def test_what_a_lost_queue_held_is_handled_after_all(service: Service) -> None:
    start = service.bus.runtime.event_log.now()
    await service.pay("a", "b", "c")

    async def arrived() -> bool:
        return await service.bus.runtime.transport.depth(service.queue) == 3

    await until(arrived, "three events wait")
    await service.lose(service.queue)
    async with Worker(service.bus):
        assert await service.republish("rings", start, dry_run=True) == 3
        assert await service.republish("rings", start) == 3
        await until(lambda: len(service.rung) == 3, "all are handled")
    assert sorted(service.rung) == ["a", "b", "c"]


async def test_what_was_handled_counts_once_however_often_it_is_sent(service: Service) -> None:
    start = service.bus.runtime.event_log.now()
    async with Worker(service.bus):
        await service.pay("a", "b")
        await until(lambda: len(service.rung) == 2, "both are handled")
        assert await service.republish("mails", start) == 2
        assert await service.republish("books", start) == 2
        assert await service.republish("payments", start) == 4
        assert await service.republish("rings", start) == 2
        await until(lambda: len(service.rung) == 4, "what is not marked happens again")
        await drained(service)

    log = service.bus.runtime.event_log

    async def booked() -> bool:
        return all([len(await log.read(f"booking-{id}")) == 1 for id in "ab"])

    async with Worker(service.bus):
        await until(booked, "each is booked")
        await drained(service)
    assert await booked()
    runtime = service.bus.runtime
    collections = cast(Comparable, runtime.collections)
    mails = await collections.page(own_target("outgoing", []), "", 10)
    assert [mail["times"] for mail in mails] == [1, 1]
    (target,) = await runtime.targets()
    found = await collections.whole(target, ["a", "b"])
    assert {key: (one["paid"], one["refunded"]) for key, one in found.items()} == {
        "a": (1, 1),
        "b": (1, 1),
    }
    assert await runtime.control.dead_letters(10) == []


async def test_only_a_time_is_sent_and_it_can_be_gone_on_with(service: Service) -> None:
    await service.pay("a")
    await asyncio.sleep(0.002)
    since = service.bus.runtime.event_log.now()
    await service.pay("b")
    last = service.bus.runtime.event_log.now()
    await asyncio.sleep(0.002)
    await service.pay("c")
    reached: list[tuple[datetime, int]] = []

    def report(time: datetime, events: int) -> None:
        reached.append((time, events))

    assert await service.republish("rings", since, until=last, report=report) == 1
    ((time, events),) = reached[-1:]
    assert since <= time <= last
    assert events == 1
    assert await service.republish("rings", last + timedelta(milliseconds=1)) == 1
    assert await service.republish("rings", since.replace(tzinfo=None)) == 2


async def test_nobody_else_gets_what_is_sent_to_one(service: Service) -> None:
    start = service.bus.runtime.event_log.now()
    await service.pay("a")
    transport = service.bus.runtime.transport
    others = [f"{service.bus.service}.{name}" for name in ("mails", "books")]

    async def published() -> bool:
        return [await transport.depth(queue) for queue in [*others, service.queue]] == [1, 1, 1]

    await until(published, "the event is published")
    await service.republish("rings", start)

    async def twice() -> bool:
        return await transport.depth(service.queue) == 2

    await until(twice, "it is there once more")
    assert [await transport.depth(queue) for queue in others] == [1, 1]


async def test_a_subscription_that_is_not_there_is_refused_with_those_that_are(
    service: Service,
) -> None:
    with pytest.raises(ConfigurationError, match=r"it has commands, mails, books, rings, payments"):
        await service.republish("nobody", service.bus.runtime.event_log.now())


async def test_commands_that_handlers_sent_and_their_queue_lost_are_carried_out_after_all(
    service: Service,
) -> None:
    start = service.bus.runtime.event_log.now()
    transport, log = service.bus.runtime.transport, service.bus.runtime.event_log
    commands = f"{service.bus.service}.commands"
    async with Worker(service.bus, only=["books"]):
        await service.pay("a", "b")

        async def sent() -> bool:
            return await transport.depth(commands) == 2

        await until(sent, "two commands wait")
    await service.lose(commands)
    async with Worker(service.bus):
        assert await service.republish("books", start) == 2  # which repeats nothing
        assert await service.republish("commands", start) == 2

        async def booked() -> bool:
            return all([await log.read(f"booking-{id}") for id in "ab"])

        await until(booked, "both are booked")
        assert await service.republish("commands", start) == 2
        await drained(service)
    assert [len(await log.read(f"booking-{id}")) for id in "ab"] == [1, 1]


async def test_a_queue_that_is_gone_is_told_with_the_remedy(service: Service) -> None:
    start = service.bus.runtime.event_log.now()
    await service.pay("a")
    await service.bus.runtime.transport.delete([service.queue])
    with pytest.raises(Unroutable, match=r"rings is gone; start a worker"):
        await service.republish("rings", start)

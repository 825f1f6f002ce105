"""Queues of handlers and of commands that were lost are filled again from the log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from bus import Bus, Settings, Worker
from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.data.payload import Document
from bus.errors import TransportUnavailable
from bus.recovery import losses, republishing
from bus.recovery.losses import Losses, Resending
from bus.stores.control import change_note
from bus.transports.base import Delivery, Frame, Transport
from tests.service.bookkeeping import Service, drained
from tests.service.following_contract import diary_of, payment, shop
from tests.waiting import until

LONG_AGO = "2000-01-01T00:00:00+00:00"


@pytest.fixture
async def service(settings: Settings, unique: str) -> AsyncIterator[Service]:
    service = Service(settings, unique)
    async with service.bus:
        yield service


@pytest.fixture
async def follower(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    """One that follows another service, whose events its router `thanks` handles."""
    async with shop(settings, unique, f"{unique}_bank") as bus:
        yield bus


async def known(service: Service, name: str = "rings") -> Document:
    """What is known of a subscription, once it is."""
    return await known_of(service.bus, name)


async def known_of(bus: Bus, name: str) -> Document:
    async def noted() -> Any:
        return (await Losses(bus.runtime).read()).get(name)

    found: Document = await until(noted, f"{name} is known")
    return found


async def is_lost(service: Service, name: str = "rings") -> None:
    async def noted() -> bool:
        return "lost" in await known(service, name)

    await until(noted, f"the loss of {name} is noted")


async def quiet_long_ago(service: Service) -> None:
    await known(service)

    def changed(all: Document) -> Document:
        return {**all, "rings": {"quiet": LONG_AGO}}

    runtime = service.bus.runtime
    await change_note(runtime.control, f"subscriptions/{runtime.service}", changed)


def resending(service: Service, *names: str) -> Resending:
    runtime = service.bus.runtime
    return Resending(runtime, Losses(runtime), names)


async def depth(service: Service, of: int) -> None:
    async def there() -> bool:
        return await service.bus.runtime.transport.depth(service.queue) == of

    await until(there, f"{of} wait")


async def test_what_a_lost_queue_held_is_sent_again_by_a_worker(service: Service) -> None:
    await known(service)
    await service.pay("a", "b")
    await depth(service, 2)
    await service.lose(service.queue)
    await is_lost(service)
    looking = resending(service, "rings")
    await looking.look()
    told = await looking.check.ask()
    assert told is not None
    assert "the queue of rings was lost" in told
    assert told.endswith("sent again from the log: 2")
    assert "lost" not in await known(service)
    async with Worker(service.bus):
        await until(lambda: len(service.rung) == 2, "both are handled")
    assert sorted(service.rung) == ["a", "b"]


async def test_commands_of_a_lost_queue_are_sent_again_too(service: Service) -> None:
    await known(service, "commands")
    runtime = service.bus.runtime
    commands = f"{service.bus.service}.commands"
    async with Worker(service.bus, only=["books"]):
        await service.pay("a")

        async def sent() -> bool:
            return await runtime.transport.depth(commands) == 1

        await until(sent, "a command waits")
    await service.lose(commands)
    await is_lost(service, "commands")
    async with Worker(service.bus, only=["commands"]):
        await resending(service, "commands").look()

        async def booked() -> bool:
            return bool(await runtime.event_log.read("booking-a"))

        await until(booked, "it is booked")


async def test_what_another_service_published_late_is_sent_again_and_its_history_is_not(
    follower: Bus,
) -> None:
    """Its relay was down for two hours: what happened before this service lost its queue, and
    before the queue was seen empty, came only now."""
    await known_of(follower, "thanks")
    runtime, queue = follower.runtime, f"{follower.service}.thanks"
    assert runtime.followed is not None
    await runtime.history.note_heard("purse", clock.now() - timedelta(hours=3))
    late = payment("a", 1, 5, age=2 * 3600)
    await runtime.followed.keep([late, payment("b", 1, 5, age=4 * 3600), payment("c", 1, 5)])
    await runtime.transport.delete([queue])
    await runtime.transport.declare(runtime.topology)

    async def is_lost() -> bool:
        return "lost" in await known_of(follower, "thanks")

    await until(is_lost, "the loss is noted")
    await Resending(runtime, Losses(runtime), ["thanks"]).look()

    async def sent() -> bool:
        return await runtime.transport.depth(queue) == 2

    await until(sent, "the late one and the one of now wait")
    diary = diary_of(follower)
    async with Worker(follower, only=["thanks"]):
        await until(lambda: len(diary) == 2, "both are handled")
    assert sorted(diary) == ["purse-a@1", "purse-c@1"]


async def test_queues_that_are_new_are_not_lost(service: Service) -> None:
    for name in ("rings", "books", "mails", "commands"):
        assert (await known(service, name)).keys() == {"quiet"}


class Made:
    """A transport whose process found a queue missing, and has made it."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def made_anew(self) -> list[str]:
        return [self._queue]


async def test_a_new_queue_that_several_processes_make_at_once_is_not_lost(
    service: Service,
) -> None:
    await known(service)
    runtime = service.bus.runtime
    opening = Losses(runtime._replace(transport=cast(Transport, Made(service.queue))))
    await opening.mark_quiet({"rings": runtime.event_log.now() + timedelta(seconds=1)})
    await opening.note_anew()
    assert "lost" not in await known(service)
    await opening.note_anew()
    assert "lost" in await known(service)


async def test_a_queue_is_quiet_once_it_was_found_empty_twice(service: Service) -> None:
    await quiet_long_ago(service)
    looking = resending(service, "rings")
    await looking.mark()
    assert (await known(service))["quiet"] == LONG_AGO
    await service.pay("a")
    await depth(service, 1)
    await looking.mark()
    await looking.mark()
    assert (await known(service))["quiet"] == LONG_AGO
    async with Worker(service.bus):
        await until(lambda: service.rung, "it is handled")
        await drained(service)

    async def marked() -> bool:
        await looking.mark()
        return bool((await known(service))["quiet"] > LONG_AGO)

    await until(marked, "it is quiet")


async def test_what_a_worker_has_taken_and_not_handled_yet_is_not_settled(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits behind a slow one, no depth counts it, and it is lost with its queue."""
    monkeypatch.setattr(losses, "IN_HAND", timedelta(milliseconds=100))
    await known(service)
    inbox = await service.bus.runtime.transport.inbox(service.queue, prefetch=6)
    await service.pay("a", "b", "c")
    taken: list[Delivery] = []
    while len(taken) < 3:
        taken += await inbox.take(6)
    log = service.bus.runtime.event_log
    later = log.now() + timedelta(seconds=0.2)
    await until(lambda: log.now() > later, "it was published some time ago")
    looking = resending(service, "rings")
    await looking.mark()
    await looking.mark()
    await inbox.close()
    await service.lose(service.queue)
    await is_lost(service)
    await looking.look()
    async with Worker(service.bus):
        await until(lambda: set(service.rung) == {"a", "b", "c"}, "all are handled")


async def test_what_was_lost_is_not_quiet_and_no_further_back_than_an_hour_is_sent(
    service: Service,
) -> None:
    await quiet_long_ago(service)
    await service.pay("a")
    await depth(service, 1)
    await service.lose(service.queue)
    await is_lost(service)
    looking = resending(service, "rings")
    await looking.mark()
    await looking.mark()
    assert (await known(service))["quiet"] == LONG_AGO
    await looking.look()
    told = await looking.check.ask()
    assert told is not None
    assert "sent again from the log: 1. What is older may be missing" in told
    assert f"--to rings --since {LONG_AGO} --until " in told
    await depth(service, 1)


class Hindered:
    """Publishes one frame a go, and has something happen before the third."""

    healthy = False  # nothing is marked quiet meanwhile

    def __init__(self, runtime: Runtime, happens: Callable[[], Awaitable[None]]) -> None:
        self._transport = runtime.transport
        self._happens = happens
        self.gone: list[str] = []

    async def publish(self, frames: Sequence[Frame], *, must_route: bool) -> dict[str, Exception]:
        if len(self.gone) == 2:
            await self._happens()
        self.gone += [frame.id for frame in frames]
        return await self._transport.publish(frames, must_route=must_route)


@pytest.fixture
async def lost(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """One whose queue held three events, and was lost; they are sent again one by one."""
    monkeypatch.setattr(republishing, "AT_ONCE", 1)
    await known(service)
    for one in "abc":
        await service.pay(one)
        await asyncio.sleep(0.005)  # each with a time of its own
    await depth(service, 3)
    await service.lose(service.queue)
    await is_lost(service)
    return service


def hindered(
    service: Service, happens: Callable[[], Awaitable[None]]
) -> tuple[Resending, Hindered]:
    runtime = service.bus.runtime
    transport = Hindered(runtime, happens)
    runtime = runtime._replace(transport=cast(Transport, transport))
    return Resending(runtime, Losses(runtime), ["rings"]), transport


async def test_what_is_lost_once_more_while_it_is_sent_again_is_sent_anew(lost: Service) -> None:
    first = (await known(lost))["latest"]

    async def lose() -> None:
        await lost.lose(lost.queue)

        async def noted() -> bool:
            return bool((await known(lost))["latest"] > first)

        await until(noted, "the second loss is noted")

    looking, transport = hindered(lost, lose)
    await looking.look()
    assert "lost" in await known(lost)
    await looking.look()
    assert "lost" not in await known(lost)
    assert len(transport.gone) == 3 + 3
    await depth(lost, 1 + 3)


async def test_sending_again_goes_on_where_a_cut_broke_it_off(lost: Service) -> None:
    cuts = iter([TransportUnavailable("cut")])

    async def cut() -> None:
        for error in cuts:
            raise error

    looking, transport = hindered(lost, cut)
    with pytest.raises(TransportUnavailable):
        await looking.look()
    assert len(transport.gone) == 2
    transport.gone.append("cut")
    await looking.look()
    assert len(transport.gone) == 3 + 2, "the last that went, and what was left"
    async with Worker(lost.bus):
        await until(lambda: set(lost.rung) == {"a", "b", "c"}, "all are handled")

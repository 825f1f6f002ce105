"""Each try of a handler gets its message as it was, whatever the one before did with its lists."""

import asyncio
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from bus import (
    Aggregate,
    Bus,
    Command,
    ConcurrencyError,
    DeadLetters,
    Envelope,
    Event,
    Next,
    Outbox,
    Repository,
    RetryPolicy,
    Router,
    Settings,
    StoreUnavailable,
    Worker,
)
from bus.codec import new_envelope
from bus.dispatch.anew import anew
from bus.stores.session import Session
from tests.waiting import until


class Item(BaseModel):
    parts: list[str]


class Fill(Command):
    basket: str
    items: list[str]
    counts: dict[str, int]
    item: Item
    _notes: list[str] = PrivateAttr(default_factory=list)


class Filled(Event):
    items: list[str]


class Basket(Aggregate):
    items: list[str]

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.items = []

    def apply(self, event: Event) -> None:
        match event:
            case Filled():
                self.items += event.items


def taken(fill: Fill) -> list[str]:
    """All that it holds, which it no longer does then."""
    found = [*fill.items, *fill.counts, *fill.item.parts, *fill._notes]
    for part in (fill.items, fill.counts, fill.item.parts, fill._notes):
        part.clear()
    return found


def fill(number: int) -> Fill:
    command = Fill(
        basket="b", items=[f"i{number}"], counts={f"c{number}": 1}, item=Item(parts=[f"p{number}"])
    )
    command._notes.append(f"n{number}")
    return command


async def passing(envelope: Envelope, following: Next) -> Any:
    return await following(envelope)


@pytest.mark.parametrize("middleware", [[], [passing], [passing, passing]])
async def test_a_command_that_lost_a_conflict_is_run_again_as_it_was(middleware: list[Any]) -> None:
    router = Router("baskets")

    @router.command
    async def on_fill(command: Fill, envelope: Envelope, baskets: Repository[Basket]) -> None:
        assert envelope.message is command
        basket = await baskets.find(command.basket)
        if basket is None:
            basket = Basket(command.basket)
            baskets.add(basket)
        await asyncio.sleep(0)
        basket.record(Filled(items=taken(command)))

    settings = Settings.in_memory()
    async with Bus("b", routers=[router], settings=settings, middleware=middleware) as bus:
        await asyncio.gather(*(bus.execute(fill(number)) for number in range(4)))
        commits = await bus.runtime.event_log.read("basket-b")
    stored = [commit.events[0].data["items"] for commit in commits]
    assert sorted(stored) == [[f"{kind}{n}" for kind in "icpn"] for n in range(4)]


class Told(Event):
    items: list[str]


RETRY = RetryPolicy(tries=4, pause=0.001, delays=[])


@pytest.mark.parametrize("middleware", [[], [passing]])
@pytest.mark.parametrize("error", [TimeoutError, ConcurrencyError, StoreUnavailable])
async def test_an_event_is_tried_again_as_it_was(
    middleware: list[Any], error: Callable[[str], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.delivery.handler_consumer.pauses", lambda: iter([0.001] * 9))
    router, seen = Router("mails", retry=RETRY), list[list[str]]()

    @router.event
    async def on_told(event: Told, envelope: Envelope, outbox: Outbox) -> None:
        assert envelope.message is event
        seen.append(copy(event.items))
        event.items.clear()
        if len(seen) < 3:
            raise error("not yet")

    settings = Settings.in_memory()
    bus = Bus("b", routers=[router], settings=settings, middleware=middleware)
    async with bus, Worker(bus):
        await bus.publish(Told(items=["a", "b"]))
        await until(lambda: len(seen) == 3, "it was tried three times")
    assert seen == [["a", "b"]] * 3


async def test_a_queued_command_is_tried_again_as_it_was() -> None:
    router, seen = Router("baskets", retry=RETRY), list[list[str]]()

    @router.command
    async def on_fill(command: Fill) -> None:
        seen.append(taken(command))
        if len(seen) < 3:
            raise TimeoutError

    async with Bus("b", routers=[router], settings=Settings.in_memory()) as bus, Worker(bus):
        await bus.request(Fill(basket="b", items=["x"], counts={"y": 1}, item=Item(parts=["z"])))
    assert seen == [["x", "y", "z"]] * 3


async def test_an_event_is_handled_again_as_it_was_where_a_session_lost_to_another() -> None:
    router, seen = Router("mails", retry=RETRY, concurrency=4), list[list[str]]()

    @router.event
    async def on_told(event: Told, session: Session) -> None:
        seen.append(copy(event.items))
        notes = session.documents("notes")
        await notes.find_one({"_id": "all"})
        await asyncio.sleep(0)
        for item in event.items:
            await notes.update("all", {"$inc": {item: 1}})
        event.items.clear()

    async with Bus("b", routers=[router], settings=Settings.in_memory()) as bus, Worker(bus):
        for _ in range(4):
            await bus.publish(Told(items=["a", "b"]))
        await until(lambda: len(seen) > 4, "one was handled again", within=5)
        assert await DeadLetters(bus).list() == []
    assert all(items == ["a", "b"] for items in seen)


class Passing(Event):
    """Can be read while `left` is not 0."""

    left: ClassVar[int] = 3  # as it is published, as it is written, as it arrives
    items: list[str]

    @field_validator("items")
    @classmethod
    def still(cls, items: list[str]) -> list[str]:
        if not cls.left:
            raise ValueError("it is over")
        Passing.left -= 1
        return items


async def test_a_message_that_cannot_be_read_any_more_is_given_up() -> None:
    router, seen = Router("mails", retry=RETRY), list[list[str]]()

    @router.event
    async def on_passing(event: Passing) -> None:
        seen.append(event.items)
        raise TimeoutError

    async with Bus("b", routers=[router], settings=Settings.in_memory()) as bus, Worker(bus):
        await bus.publish(Passing(items=["a"]))
        letters = DeadLetters(bus)
        await until(letters.list, "it is a dead letter", within=5)
        (letter,) = await letters.list()
    assert "it is over" in letter.reason
    assert seen == [["a"]]


class Opaque:
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no")


class Odd(Command):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    opaque: Any = None


class Flat(Command):
    name: str
    number: int = 1


class Scalars(Command):
    model_config = ConfigDict(str_max_length=10)

    name: str
    at: datetime


class Open(Command):
    model_config = ConfigDict(extra="allow")
    known: ClassVar[int] = 1

    name: str


@pytest.mark.parametrize(
    "message", [Flat(name="a"), Scalars(name="a", at=datetime.now(UTC)), Odd(opaque=Opaque())]
)
def test_what_cannot_change_or_be_copied_stays(message: Command) -> None:
    envelope = new_envelope(message)
    assert anew(envelope) is envelope


def test_what_a_message_holds_beyond_its_fields_is_copied_too() -> None:
    message = Open.model_validate({"name": "a", "more": ["x"]})
    again = anew(new_envelope(message))
    message.__pydantic_extra__["more"].clear()  # type: ignore[index]
    assert again.message.model_dump() == {"name": "a", "more": ["x"]}

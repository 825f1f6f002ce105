"""Commands over the broker whose sender waits for the receipt, in memory and for real."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    AggregateNotFound,
    Bus,
    Command,
    Documents,
    Envelope,
    Event,
    InvalidMessage,
    OutcomeUnknown,
    Projection,
    Query,
    Receipt,
    Reject,
    RemoteError,
    Repository,
    Router,
    Settings,
    StoreUnavailable,
    UnknownMessage,
    Update,
    Worker,
)
from bus.codec import command_frame
from bus.common import clock
from bus.delivery.replies import receipt_in
from bus.transports.base import MAX_BODY, REPLY, Frame, Transport
from tests.waiting import patience, until


class Book(Command):
    room_id: str
    day: date
    mood: str = ""


class Strike(Command):
    room_id: str


class Booked(Event):
    day: date


class Room(Aggregate):
    bookings: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Booked():
                self.bookings += 1


class RoomView(BaseModel):
    bookings: int


class GetRoom(Query[RoomView | None]):
    room_id: str


class Booking(BaseModel):
    number: int
    day: date
    remarks: str = ""


class NoRoom(Exception):
    """A domain error of the service's own."""


class Desk:
    """Counts a command's tries; `open` holds the handler back until it is set."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.open.set()


def build(settings: Settings, service: str, desk: Desk, *, handlers: bool = True) -> Bus:
    bookings = Router("bookings")
    rooms = Projection("rooms", of=[Room], view=RoomView)

    @bookings.command
    async def book(
        command: Book, envelope: Envelope, repository: Repository[Room], desk: Desk
    ) -> Booking:
        desk.tries[envelope.id] += 1
        await desk.open.wait()
        room = await repository.find(command.room_id)
        if room is None:
            room = Room(command.room_id)
            repository.add(room)
        room.record(Booked(day=command.day))
        if command.mood == "full":
            raise NoRoom("nothing left\nfor that day")
        if command.mood == "rejects":
            raise Reject("not on Sundays")
        if command.mood == "outage" and desk.tries[envelope.id] < 4:
            raise StoreUnavailable("another database is away")
        remarks = "x" * MAX_BODY if command.mood == "chatty" else ""
        return Booking(number=room.bookings, day=command.day, remarks=remarks)

    @bookings.command
    async def strike(command: Strike, repository: Repository[Room]) -> None:
        await repository.get(command.room_id)

    @rooms.on(Booked)
    def booked(event: Booked) -> Update:
        return {"$inc": {"bookings": 1}}

    @bookings.query
    async def get_room(query: GetRoom, documents: Documents[RoomView]) -> RoomView | None:
        return await documents.get(query.room_id)

    return Bus(
        service,
        routers=[bookings] if handlers else [],
        projections=[rooms],
        settings=settings,
        provide={Desk: desk} if handlers else {},
    )


DAY = date(2026, 7, 1)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def idle(settings: Settings, unique: str, desk: Desk) -> AsyncIterator[Bus]:
    async with build(settings, unique, desk) as bus:
        yield bus


@pytest.fixture
async def bus(idle: Bus) -> AsyncIterator[Bus]:
    async with Worker(idle):
        yield idle


async def bookings(bus: Bus, room_id: str = "r1") -> int:
    return sum(len(commit.events) for commit in await bus.runtime.event_log.read(f"room-{room_id}"))


class WithoutReplies:
    """A worker's bus whose replies are lost on their way, as those of a worker that crashes are."""

    def __init__(self, bus: Bus) -> None:
        losing = _Losing(bus.runtime.transport)
        self.runtime = bus.runtime._replace(transport=losing)
        self.lost = losing.lost


class _Losing:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.lost: list[Frame] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, frames: Sequence[Frame], **options: Any) -> dict[str, Exception]:
        self.lost += [frame for frame in frames if frame.address == REPLY]
        left = [frame for frame in frames if frame.address != REPLY]
        return await self._transport.publish(left, **options)


async def test_a_request_returns_the_receipt_that_a_query_can_wait_for(bus: Bus) -> None:
    receipt = await bus.request(Book(room_id="r1", day=DAY), id="b1")
    assert receipt == Receipt("b1", {"room-r1": 1}, Booking(number=1, day=DAY))
    assert await bus.query(GetRoom(room_id="r1"), after=receipt, timeout=30) == RoomView(bookings=1)


async def test_a_requester_without_the_handler_gets_the_result_as_json(
    real_settings: Settings, unique: str, desk: Desk
) -> None:
    async with (
        build(real_settings, unique, desk) as worker,
        Worker(worker),
        build(real_settings, unique, desk, handlers=False) as bus,
    ):
        receipt = await bus.request(Book(room_id="r1", day=DAY))
    assert receipt.result == {"number": 1, "day": "2026-07-01", "remarks": ""}


async def test_a_handlers_own_error_comes_back_at_once_and_leaves_nothing_behind(
    bus: Bus, desk: Desk
) -> None:
    began = time.monotonic()
    with pytest.raises(RemoteError, match="NoRoom: nothing left\nfor that day") as raised:
        await bus.request(Book(room_id="r1", day=DAY, mood="full"), id="b1")
    assert time.monotonic() - began < 10 * patience()
    assert (raised.value.type, raised.value.reason) == ("NoRoom", "nothing left\nfor that day")
    assert desk.tries["b1"] > 1
    assert await bookings(bus) == 0
    assert await bus.runtime.control.dead_letters() == []


async def test_errors_of_the_bus_come_back_as_themselves(bus: Bus) -> None:
    with pytest.raises(Reject, match="not on Sundays"):
        await bus.request(Book(room_id="r1", day=DAY, mood="rejects"))
    with pytest.raises(AggregateNotFound, match="no Room 'r1'"):
        await bus.request(Strike(room_id="r1"))
    assert await bus.runtime.control.dead_letters() == []


async def test_what_cannot_be_read_is_answered_too(bus: Bus) -> None:
    command = Book(room_id="r1", day=DAY)
    frame = command_frame(Envelope(command, "b1", clock.now(), "c1"))
    for error, spoilt in (
        (InvalidMessage, frame._replace(body=b"no json")),
        (UnknownMessage, frame._replace(name="Unheard")),
    ):
        with pytest.raises(error):
            receipt_in(await bus.runtime.transport.request(spoilt, 10))
    assert await bus.runtime.control.dead_letters() == []


async def test_a_command_that_nobody_waits_for_still_becomes_a_dead_letter(bus: Bus) -> None:
    await bus.send(Book(room_id="r1", day=DAY, mood="rejects"))
    assert await until(bus.runtime.control.dead_letters, "the dead letter")


async def test_an_outage_is_no_answer(bus: Bus, desk: Desk) -> None:
    receipt = await bus.request(Book(room_id="r1", day=DAY, mood="outage"), id="b1")
    assert receipt.versions == {"room-r1": 1}
    assert desk.tries["b1"] == 4


async def test_without_a_worker_it_times_out_and_a_repeat_gets_the_receipt_of_one_effect(
    idle: Bus, desk: Desk
) -> None:
    with pytest.raises(OutcomeUnknown, match="no answer within") as raised:
        await idle.request(Book(room_id="r1", day=DAY), timeout=0.1)
    async with Worker(idle):
        receipt = await idle.request(Book(room_id="r1", day=DAY), id=raised.value.id)
    assert receipt.versions == {"room-r1": 1}
    assert await bookings(idle) == 1
    assert desk.tries[raised.value.id] == 1


async def test_a_lost_reply_is_got_by_repeating_with_the_same_id(idle: Bus, desk: Desk) -> None:
    forgetful = WithoutReplies(idle)
    async with Worker(forgetful):
        with pytest.raises(OutcomeUnknown):
            await idle.request(Book(room_id="r1", day=DAY), id="b1", timeout=1)
        await until(lambda: forgetful.lost, "the reply is lost")
    assert [frame.id for frame in forgetful.lost] == ["b1"]
    async with Worker(idle):
        receipt = await idle.request(Book(room_id="r1", day=DAY), id="b1")
    assert receipt == Receipt("b1", {"room-r1": 1}, Booking(number=1, day=DAY))
    assert await bookings(idle) == 1
    assert desk.tries["b1"] == 1


async def test_a_late_reply_is_dropped_and_disturbs_nobody(bus: Bus, desk: Desk) -> None:
    desk.open.clear()
    with pytest.raises(OutcomeUnknown):
        await bus.request(Book(room_id="r1", day=DAY), id="late", timeout=0.1)
    waiting = asyncio.create_task(bus.request(Book(room_id="r2", day=DAY), id="other"))
    await until(lambda: desk.tries["other"], "the other one is at work")
    desk.open.set()
    assert (await waiting).id == "other"
    assert (await bus.request(Book(room_id="r1", day=DAY), id="late")).versions == {"room-r1": 1}
    assert await bookings(bus) == 1


async def test_a_receipt_too_large_to_travel_is_told(bus: Bus) -> None:
    with pytest.raises(OutcomeUnknown, match=r"was carried out.*body of"):
        await bus.request(Book(room_id="r1", day=DAY, mood="chatty"))
    assert await bookings(bus) == 1


async def test_two_hundred_requests_at_once_each_get_their_own_receipt(bus: Bus) -> None:
    rooms = [f"r{number}" for number in range(200)]
    receipts = await asyncio.gather(*(bus.request(Book(room_id=r, day=DAY)) for r in rooms))
    assert [receipt.versions for receipt in receipts] == [{f"room-{r}": 1} for r in rooms]

"""What views read of what projections' handlers wrote, on any event log and collections."""

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from bus.codec import envelopes_of, record
from bus.common import clock
from bus.errors import ProjectionError
from bus.messages import Envelope, Event
from bus.read.documents import Documents
from bus.read.fold import Applied
from bus.read.projection import Projection, Update
from bus.read.projector import Projector
from bus.rebuild.replay import Reached, Replay
from bus.stores.collections import Comparable, LoadsInBulk
from bus.stores.control import Control
from bus.stores.event_log import Commit, EventLog


class Account:
    """Names the category that feeds the projections here."""

    category = "account"


class Line(BaseModel):
    """A line of an order."""

    sku: str
    price: Decimal


class Ordered(Event):
    """Something is ordered: values of many types."""

    customer: UUID
    price: Decimal
    day: date
    at: datetime
    opens: time
    takes: timedelta
    tags: set[str]
    lines: tuple[Line, ...]


class OrdersView(BaseModel):
    """What is read back from orders."""

    model_config = ConfigDict(extra="forbid")

    id: str
    customer: UUID
    day: date
    at: datetime
    opens: time
    total: Decimal = Decimal(0)
    takes: timedelta = timedelta(0)
    tags: frozenset[str] = frozenset()
    days: tuple[date, ...] = ()
    by_day: dict[date, Decimal] = {}
    last: Line | None = None


class Noted(Event):
    """A moment in any time zone."""

    at: datetime


class NoteView(BaseModel):
    """The moment."""

    at: datetime


class KeyedView(BaseModel):
    """The moment of a document whose key is shown."""

    id: str
    at: datetime


def orders() -> Projection[OrdersView]:
    """Returns a projection whose updates hold the event's values unchanged."""
    projection = Projection("orders", of=[Account], view=OrdersView)

    @projection.on(Ordered)
    def ordered(event: Ordered) -> Update:
        return order_of(event)

    return projection


def orders_that_look() -> Projection[OrdersView]:
    """Returns the same with an async handler, which looks for what it wrote."""
    projection = Projection("looking", of=[Account], view=OrdersView)

    @projection.on(Ordered)
    async def ordered(event: Ordered, envelope: Envelope, documents: Documents[OrdersView]) -> None:
        await documents.update(envelope.stream.partition("-")[2], order_of(event))
        written = {"customer": event.customer, "opens": event.opens, "days": event.day}
        if await documents.count(written) != 1:
            raise ValueError("not found by what was written")

    return projection


def orders_in_memory(name: str) -> Projection[OrdersView]:
    """What a rebuild can apply without asking the database."""
    projection = Projection(name, of=[Account], view=OrdersView)

    @projection.on(Ordered)
    def ordered(event: Ordered) -> Update:
        update = order_of(event)
        del update["$addToSet"]
        return {**update, "$set": {**update["$set"], "tags": event.tags}}

    return projection


def order_of(event: Ordered) -> dict[str, Any]:
    """Returns an update with a value of each type, under many operators."""
    return {
        "$set": {"customer": event.customer, "opens": event.opens, "last": event.lines[-1]},
        "$inc": {"total": event.price, f"by_day.{event.day}": event.price, "takes": event.takes},
        "$max": {"day": event.day, "at": event.at},
        "$addToSet": {"tags": {"$each": event.tags}},
        "$push": {"days": event.day},
    }


MOMENT = datetime(2024, 2, 29, 12, 30, 0, 123000, tzinfo=timezone(timedelta(hours=2)))


def an_order(days: int, moment: datetime, tags: Collection[str] = ("b", "a")) -> Ordered:
    """Returns an order from some days after the 29th of February."""
    return Ordered(
        customer=UUID(int=7), price=Decimal("1.10"), day=date(2024, 2, 29) + timedelta(days),
        at=moment, opens=time(9, 5), takes=timedelta(seconds=1.5), tags=set(tags),
        lines=(Line(sku="x", price=Decimal("0.55")),),
    )  # fmt: skip


class Alone(Projector):
    """Makes a rebuild apply all updates itself, without the database to fall back on."""

    async def apply_streams(self, streams: Iterable[str]) -> Applied:
        """Fails the test: the database was asked."""
        raise AssertionError(f"left to the database: {[*streams]}")


class WholeDocuments(LoadsInBulk, Comparable, Protocol):
    """Collections as these tests need them."""


class Stores(Protocol):
    """What an implementation supplies: its stores, open and empty."""

    event_log: EventLog
    collections: WholeDocuments
    control: Control


class Projecting:
    """Helpers for subclasses with the fixture `stores`, a `Stores`."""

    async def append(
        self, stores: Stores, stream: str, first: int, *events: Event, ahead: float = 0
    ) -> list[Envelope]:
        """Appends events, dated `ahead` seconds ahead of the log's clock, and returns them as they
        would arrive."""
        commit = Commit(
            id=clock.new_id(),
            stream=stream,
            category="account",
            first=first,
            events=tuple(record(event) for event in events),
            time=stores.event_log.now() + timedelta(seconds=ahead),
            correlation_id="conversation",
        )
        await stores.event_log.append([commit])
        names = {type(event).__name__: type(event) for event in events}
        return list(envelopes_of(commit, names))

    async def projector(
        self, stores: Stores, projection: Projection[Any], kind: type[Projector] = Projector
    ) -> Projector:
        """Returns a projector that has taken over."""
        target = projection.target()
        await stores.collections.prepare(target)
        projector = kind(
            projection,
            target,
            stores.event_log,
            stores.collections,
            stores.control,
            stores.collections.writer(target, f"test.{projection.name}"),
        )
        await projector.take_over()
        return projector

    def documents(self, stores: Stores, projection: Projection[Any]) -> Documents[Any]:
        """Returns the read collection, typed."""
        return Documents(stores.collections.documents(projection.target()), projection.view)


class ViewsContract(Projecting):
    """Tests views on two stores. Supply the fixture `stores`, a `Stores`."""

    @pytest.mark.parametrize("make", [orders, orders_that_look])
    async def test_a_view_reads_back_what_the_handlers_wrote(
        self, stores: Stores, make: Any
    ) -> None:
        projection = make()
        projector = await self.projector(stores, projection)
        at = MOMENT
        first, second = an_order(0, at), an_order(-1, at - timedelta(1), tags={"c"})
        arrived = await self.append(stores, "account-a", 1, first, second)
        await projector.apply(arrived)
        assert await stores.control.parked(projection.target()) == []
        expected = OrdersView(
            id="a", customer=UUID(int=7), day=first.day, at=at, opens=time(9, 5),
            total=Decimal("2.20"), takes=timedelta(seconds=3), tags=frozenset("abc"),
            days=(first.day, second.day), last=first.lines[-1],
            by_day={first.day: Decimal("1.10"), second.day: Decimal("1.10")},
        )  # fmt: skip
        documents = self.documents(stores, projection)
        assert await documents.get("a") == expected
        for filter in (
            {"day": {"$gt": second.day}, "at": {"$gte": at}, "total": {"$gt": Decimal("2.1")}},
            {"customer": {"$in": {UUID(int=7)}}, "takes": timedelta(seconds=3)},
            {"last": first.lines[-1], "opens": {"$lt": time(9, 5, 0, 1)}},
        ):
            assert await documents.find(filter) == [expected]

    async def test_a_rebuild_makes_the_very_same_documents(self, stores: Stores) -> None:
        projection, again = orders_in_memory("live"), orders_in_memory("again")
        projector = await self.projector(stores, projection)
        for stream in ("a", "b"):
            made = [an_order(n, moment=MOMENT + timedelta(microseconds=n)) for n in range(4)]
            await projector.apply(await self.append(stores, f"account-{stream}", 1, *made))
        builder = await self.projector(stores, again, Alone)

        async def progress(reached: Reached) -> None:
            pass

        replay = Replay(builder, stores.event_log, stores.collections)
        await replay.run(Reached("", 0), "", progress)
        live, built = [
            await stores.collections.whole(one.target(), ["a", "b"]) for one in (projection, again)
        ]
        assert len(live) == 2
        assert built == live

    async def test_a_value_that_has_no_form_parks_its_stream_alone(self, stores: Stores) -> None:
        projection = Projection("notes", of=[Account], view=NoteView)

        @projection.on(Noted)
        def noted(event: Noted) -> Update:
            return {"$set": {"at": event.at}}

        projector = await self.projector(stores, projection)
        bad = await self.append(stores, "account-bad", 1, Noted(at=datetime(2024, 1, 1)))
        good = await self.append(
            stores, "account-good", 1, Noted(at=datetime(2024, 1, 1, tzinfo=UTC))
        )
        await projector.apply([*bad, *good])
        (parked,) = await stores.control.parked(projection.target())
        assert parked.stream == "account-bad"
        assert "'at'" in parked.reason
        assert "without a zone" in parked.reason
        assert await self.documents(stores, projection).get("good") is not None

    async def test_the_key_is_found_by_the_name_that_the_view_gives_it(
        self, stores: Stores
    ) -> None:
        projection = orders()
        projector = await self.projector(stores, projection)
        for key in ("a", "b", "c"):
            await projector.apply(
                await self.append(stores, f"account-{key}", 1, an_order(0, MOMENT))
            )
        documents = self.documents(stores, projection)
        for name in ("id", "_id"):
            for filter, keys in (
                ({name: "b"}, ["b"]),
                ({name: {"$gt": "a"}, "day": date(2024, 2, 29)}, ["b", "c"]),
                ({"$or": [{name: "a"}, {"$and": ({name: "c"},)}]}, ["a", "c"]),
            ):
                found = await documents.find(filter, sort=[(name, -1)])
                assert [one.id for one in found] == keys[::-1]
                assert await documents.count(filter) == len(keys)
            assert await documents.distinct(name, {name: {"$ne": "a"}}) == ["b", "c"]
        for by, totals in ((["id"], {}), ([], {"last": {"$max": "$id"}})):
            with pytest.raises(ProjectionError, match="stored as _id; say _id"):
                await documents.group(by, totals=totals)
        assert await documents.group([], totals={"last": {"$max": "$_id"}}) == [{"last": "c"}]

    async def test_a_view_without_an_id_has_a_field_of_that_name_as_any_other(
        self, stores: Stores
    ) -> None:
        projection = Projection("notes", of=[Account], view=NoteView)

        @projection.on(Noted)
        def noted(event: Noted) -> Update:
            return {"$set": {"at": event.at, "id": "other"}}

        projector = await self.projector(stores, projection)
        await projector.apply(await self.append(stores, "account-a", 1, Noted(at=MOMENT)))
        assert await self.documents(stores, projection).count({"id": "other"}) == 1

    async def test_an_update_that_makes_the_id_another_one_parks_its_stream(
        self, stores: Stores
    ) -> None:
        projection = Projection("keyed", of=[Account], view=KeyedView)

        @projection.on(Noted)
        def noted(event: Noted, envelope: Envelope) -> Update:
            return {"$set": {"at": event.at, "id": "a"}}

        projector = await self.projector(stores, projection)
        for key in ("a", "b"):
            await projector.apply(await self.append(stores, f"account-{key}", 1, Noted(at=MOMENT)))
        (parked,) = await stores.control.parked(projection.target())
        assert parked.stream == "account-b"
        assert "writes id, which in KeyedView is the document's key" in parked.reason
        found = await self.documents(stores, projection).find({"id": "a"})
        assert [one.id for one in found] == ["a"]

    @pytest.mark.parametrize("sort", ["at", ["at"], [("at", 1, 1)], [1]])
    async def test_a_sort_order_that_is_none_is_told(self, stores: Stores, sort: Any) -> None:
        projection = orders()
        await self.projector(stores, projection)
        with pytest.raises(ProjectionError, match=r'write it as \[\("name", 1\)\]'):
            await self.documents(stores, projection).find({}, sort=sort)

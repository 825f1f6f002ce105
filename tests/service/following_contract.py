"""Following another service: its events in order and once, its history, and what is missing."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    DeadLetters,
    Documents,
    Envelope,
    Event,
    Events,
    NotBuilt,
    Projection,
    ProjectionError,
    Query,
    Receipt,
    Repository,
    Router,
    Settings,
    Update,
    Worker,
)
from bus.codec import event_frames
from bus.common import clock
from bus.failures.give_up import UNREAD
from bus.following.protocol import TellHeads, TellPart
from bus.operate.projections import CollectionStatus, Projections
from bus.stores.event_log import Commit, Recorded
from bus.transports.base import Frame
from bus.transports.topology import history_queue
from tests.service.trusting import forge, former_owner
from tests.waiting import in_parts, until


class Pay(Command):
    purse_id: str
    amount: int


class Paid(Event):
    amount: int


class Purse(Aggregate, events=[Paid]):
    """The bank's."""

    def apply(self, event: Event) -> None:
        """It decides nothing by what happened."""


class PlaceOrder(Command):
    order_id: str
    purse_id: str


class OrderPlaced(Event):
    purse_id: str


class Order(Aggregate, events=[OrderPlaced]):
    """The shop's."""

    def apply(self, event: Event) -> None:
        """It decides nothing by what happened."""


class PurseView(BaseModel):
    """A purse as the shop knows it: what was paid, in order."""

    id: str
    amounts: list[int] = []
    told_by: list[str] = []


class CustomerView(BaseModel):
    """What a purse received, and how many orders name it."""

    id: str
    total: int = 0
    orders: int = 0


class GetPurse(Query[PurseView | None]):
    purse_id: str


class GetPurses(Query[list[PurseView]]):
    pass


class GetCustomer(Query[CustomerView | None]):
    purse_id: str


def bank(settings: Settings, name: str) -> Bus:
    """The owner of purses."""
    router = Router("payments")

    @router.command
    async def pay(command: Pay, purses: Repository[Purse]) -> None:
        purse = await purses.find(command.purse_id)
        if purse is None:
            purse = Purse(command.purse_id)
            purses.add(purse)
        purse.record(Paid(amount=command.amount))

    return Bus(name, routers=[router], settings=settings)


class Diary(list[str]):
    """What the shop's handler of payments noted."""


def shop(
    settings: Settings, name: str, owner: str, *, version: int = 1, partitions: int = 1
) -> Bus:
    """Follows purses, in one projection by themselves and in another one with its own orders."""
    router, thanks = Router("orders"), Router("thanks")
    diary = Diary()

    @router.command
    async def place(command: PlaceOrder, orders: Repository[Order]) -> None:
        order = Order(command.order_id)
        order.record(OrderPlaced(purse_id=command.purse_id))
        orders.add(order)

    purses = Projection(
        "purses", of=[Purse], view=PurseView, version=version, partitions=partitions
    )
    customers = Projection("customers", of=[Purse, Order], view=CustomerView, version=version)

    @purses.on(Paid)
    def paid(event: Paid, envelope: Envelope) -> Update:
        return {"$push": {"amounts": event.amount, "told_by": envelope.id}}

    @customers.on(Paid)
    def received(event: Paid) -> Update:
        return {"$inc": {"total": event.amount}}

    @customers.on(OrderPlaced, key=lambda event: event.purse_id)
    def ordered(event: OrderPlaced) -> Update:
        return {"$inc": {"orders": 1}}

    @router.query
    async def get_purse(query: GetPurse, documents: Documents[PurseView]) -> PurseView | None:
        return await documents.get(query.purse_id)

    @router.query
    async def get_purses(query: GetPurses, documents: Documents[PurseView]) -> list[PurseView]:
        return await documents.find({}, sort=[("_id", 1)])

    @router.query
    async def get_customer(
        query: GetCustomer, documents: Documents[CustomerView]
    ) -> CustomerView | None:
        return await documents.get(query.purse_id)

    @thanks.event
    async def thank(event: Paid, envelope: Envelope, diary: Diary) -> None:
        diary.append(f"{envelope.stream}@{envelope.version}")

    return Bus(
        name,
        routers=[router, thanks],
        projections=[purses, customers],
        settings=settings,
        foreign={"purse": owner},
        provide={Diary: diary},
    )


def payment(purse: str, version: int, amount: int, *, age: float = 0.0) -> Commit:
    """A payment as the bank's log holds it."""
    return Commit(
        f"{purse}-{version}",
        f"purse-{purse}",
        "purse",
        version,
        (Recorded("Paid", 1, {"amount": amount}),),
        clock.now() - timedelta(seconds=age),
        "conversation",
    )


async def store(owner: Bus, *commits: Commit) -> None:
    """Into the bank's log, as if published long ago."""
    await in_parts(owner.runtime.event_log.append([commit]) for commit in commits)
    await owner.runtime.event_log.confirmed([commit.id for commit in commits])


async def tell(owner: Bus, commits: Sequence[Commit]) -> None:
    """To whoever follows the bank, whether it is in its log or not."""
    frames: list[Frame] = [frame for commit in commits for frame in event_frames(commit)]
    for frame in frames:
        assert not await owner.runtime.transport.publish([frame])


def end_of_history(token: str) -> TellPart:
    """The word that there are no purses."""
    return TellPart(
        category="purse",
        token=token,
        after="",
        place="",
        events=0,
        is_end=True,
        time=clock.now(),
    )


async def folded(owner: Bus) -> dict[str, list[int]]:
    """What each purse was paid, by the bank's own log."""
    found: dict[str, list[int]] = {}
    async for page in owner.runtime.event_log.scan_streams("purse"):
        for commit in page:
            amounts = found.setdefault(commit.stream.partition("-")[2], [])
            amounts += [event.data["amount"] for event in commit.events]
    return found


async def pay(owner: Bus, purse: str, amount: int = 1) -> Receipt:
    return await owner.execute(Pay(purse_id=purse, amount=amount))


class FollowingContract:
    """Subclasses give `make_bank` and `make_shop`: buses over one broker, each with stores of its
    own, the same each time; `named` are fields of the shop's settings."""

    async def amounts(self, follower: Bus, purse: str) -> list[int]:
        found = await follower.query(GetPurse(purse_id=purse))
        return found.amounts if found else []

    @asynccontextmanager
    async def running(self, owner: Bus, follower: Bus) -> AsyncIterator[None]:
        """Both with their workers, and with all that there was before."""
        async with owner, Worker(owner), follower, Worker(follower):
            await self.until_built(follower)
            yield

    async def is_built(self, follower: Bus) -> bool:
        found = await Projections(follower).status()
        return all(one.state == "read" for one in found)

    async def until_built(self, follower: Bus) -> None:
        async def built() -> bool:
            return await self.is_built(follower)

        await until(built, "the shop has built its projections", within=40)

    async def until_amounts(
        self, follower: Bus, purse: str, amounts: list[int], within: float = 30.0
    ) -> None:
        async def there() -> bool:
            return await self.amounts(follower, purse) == amounts

        await until(there, f"{purse} shows {amounts}", within=within)

    async def until_equal(self, owner: Bus, follower: Bus, within: float = 40.0) -> None:
        """The shop's purses are a fold of the bank's log."""

        async def equal() -> bool:
            shown = {one.id: one.amounts for one in await follower.query(GetPurses())}
            return shown == await folded(owner)

        await until(equal, "the shop's purses equal the fold of the bank's log", within=within)

    async def until_refused(self, follower: Bus, count: int) -> None:
        """Until so many answers were refused that nobody was asked for, and health tells."""
        queue = history_queue(follower.service).name

        async def refused() -> bool:
            letters = await DeadLetters(follower).list(queue=queue)
            parts = [one.part for one in (await follower.health()).problems]
            return [one.error for one in letters] == ["NotAsked"] * count and (
                "history answers" in parts
            )

        await until(refused, "the answer is refused, and health tells of it")

    async def until_taken(self, follower: Bus) -> None:
        """Until all that was told is settled."""
        queue = history_queue(follower.service).name

        async def taken() -> bool:
            counted = await follower.runtime.transport.depth(queue)
            return counted == 0

        await until(taken, "what was told is taken")

    async def status(self, follower: Bus) -> CollectionStatus:
        (found,) = await Projections(follower).status("purses")
        return found

    async def test_another_services_events_are_projected_in_order_and_once(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop()
        async with self.running(owner, follower):
            for amount in (1, 2, 3):
                await pay(owner, "a", amount)
            last = await pay(owner, "b", 9)
            await follower.execute(PlaceOrder(order_id="o1", purse_id="b"))
            found = await follower.query(GetPurse(purse_id="b"), after=last, timeout=30)
            assert found
            assert found.amounts == [9]
            await self.until_amounts(follower, "a", [1, 2, 3])

            async def both() -> bool:
                seen = await follower.query(GetCustomer(purse_id="b"))
                return seen == CustomerView(id="b", total=9, orders=1)

            await until(both, "own and foreign events feed one document")

    async def test_duplicates_and_any_order_change_nothing(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        async with make_bank() as owner, make_shop(partitions=2) as follower:
            await store(owner, *[payment(p, v, v) for p in "abcdef" for v in range(1, 31)])
            async with Worker(owner), Worker(follower):
                await self.until_built(follower)
                more = [payment(p, v, v) for p in "abcdef" for v in range(20, 61)]
                for one in more[::-1]:
                    if one.first > 30:
                        await store(owner, one)
                twice = [*more, *more]
                random.Random(7).shuffle(twice)
                await tell(owner, twice)
                await self.until_equal(owner, follower)
                await tell(owner, twice)
                await self.until_equal(owner, follower)

    async def test_a_gap_waits_and_heals_when_the_missing_event_comes(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        async with make_bank() as owner, Worker(owner), make_shop() as follower:
            async with Worker(follower):
                await self.until_built(follower)
                await tell(owner, [payment("a", 1, 1), payment("a", 3, 3), payment("a", 4, 4)])
                await tell(owner, [payment("b", 1, 1)])
                await self.until_amounts(follower, "b", [1])
                await self.until_amounts(follower, "a", [1])
                assert await DeadLetters(follower).list() == []
                assert (await self.status(follower)).parked == 0
            async with Worker(follower):  # what waits is durable
                await tell(owner, [payment("a", 2, 2)])
                await self.until_amounts(follower, "a", [1, 2, 3, 4])

    async def test_an_event_that_is_late_is_asked_for(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop(gap_within=0.5)
        async with self.running(owner, follower):
            lost = [payment("a", version, version) for version in (1, 2, 3, 4)]
            await store(owner, *lost)
            await tell(owner, lost[3:])
            await self.until_amounts(follower, "a", [1, 2, 3, 4], within=20)

    async def test_a_gap_heals_as_soon_as_the_owner_tells_what_is_missing(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop()
        async with self.running(owner, follower):
            await tell(owner, [payment("a", 1, 1), payment("a", 3, 3)])
            await self.until_amounts(follower, "a", [1])
            (frame,) = event_frames(payment("a", 2, 2))
            told = frame._replace(address="queue", topic=history_queue(follower.service).name)
            assert not await owner.runtime.transport.publish([told], must_route=True)
            await self.until_amounts(follower, "a", [1, 2, 3])

    async def test_a_gap_that_nobody_fills_parks_its_stream_until_the_event_comes(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop(gap_within=0.3)
        async with self.running(owner, follower):
            await tell(owner, [payment("a", 1, 1), payment("a", 3, 3)])

            async def parked() -> bool:
                return (await self.status(follower)).parked == 1

            await until(parked, "the stream is parked", within=20)
            letters = DeadLetters(follower)
            (letter,) = await letters.list(queue=f"{follower.service}.purses")
            assert letter.error == "EventMissing"
            assert f"version 2 has not arrived from service '{owner.service}'" in letter.reason
            await tell(owner, [payment("b", 1, 5)])
            await self.until_amounts(follower, "b", [5])
            await tell(owner, [payment("a", 2, 2)])
            await self.until_amounts(follower, "a", [1, 2, 3])

            async def unparked() -> bool:
                return await letters.list() == []

            await until(unparked, "nothing is parked any more")

    async def test_the_history_is_fetched_at_first_while_events_go_on(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        async with make_bank() as owner, Worker(owner):
            old = [payment(f"h{p}", v, p + v) for p in range(600) for v in range(1, 6)]
            await store(owner, *old)
            done = False

            async def go_on() -> None:
                number = 0
                while not done:
                    number += 1
                    await pay(owner, f"h{number % 700}", number)
                    await asyncio.sleep(0.01)

            async with make_shop() as follower:
                with pytest.raises(NotBuilt):
                    await follower.query(GetPurses())
                assert (await self.status(follower)).state == "fetching"
                going = asyncio.create_task(go_on())
                try:
                    async with Worker(follower):
                        await self.until_built(follower)
                        shown = await follower.query(GetPurses())
                        assert len(shown) >= 600
                        assert min(len(one.amounts) for one in shown if one.id < "h600") >= 5
                        await asyncio.sleep(0.5)
                        done = True
                        await going
                        await self.until_equal(owner, follower)
                        customer = await follower.query(GetCustomer(purse_id="h1"))
                        assert customer
                        assert customer.total == sum((await folded(owner))["h1"])
                finally:
                    going.cancel()

    async def test_a_rebuild_needs_no_word_of_the_owner(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        """Read again from the copy, what came as history and what arrived looks as it did."""
        async with make_bank() as owner:
            receipts = [await pay(owner, "p1", 100)]
            async with Worker(owner), make_shop() as follower, Worker(follower):
                await self.until_built(follower)
                receipts += [await pay(owner, f"p{number % 7}", number) for number in range(40)]
                await self.until_equal(owner, follower)
                seen = await follower.query(GetPurses())
            assert [id for one in seen if one.id == "p1" for id in one.told_by] == [
                f"{one.id}:1" for one in receipts if "purse-p1" in one.versions
            ]
            async with make_shop(version=2) as follower, Worker(follower):

                async def rebuilt() -> bool:
                    found = await Projections(follower).status()
                    return {o.version for o in found if o.state == "read"} == {2}

                await until(rebuilt, "both projections are rebuilt", within=40)
                assert await follower.query(GetPurses()) == seen
                customer = await follower.query(GetCustomer(purse_id="p1"))
                assert customer
                assert customer.total == sum((await folded(owner))["p1"])

    async def test_a_collection_that_is_built_over_a_gap_waits_at_it_too(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        async with make_bank() as owner:
            async with Worker(owner), make_shop() as follower, Worker(follower):
                await self.until_built(follower)
                await tell(owner, [payment("a", v, v) for v in (1, 3, 4)])
                await tell(owner, [payment("b", 1, 1)])
                await self.until_amounts(follower, "b", [1])
            async with make_shop(version=2) as follower, Worker(follower):

                async def rebuilt() -> bool:
                    found = await Projections(follower).status("purses")
                    return {o.version for o in found if o.state == "read"} == {2}

                await until(rebuilt, "the purses are rebuilt", within=40)
                assert await self.amounts(follower, "a") == [1]
                await tell(owner, [payment("a", 2, 2)])
                await self.until_amounts(follower, "a", [1, 2, 3, 4])

    async def test_an_owner_that_is_away_only_delays(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        async with make_shop() as follower, Worker(follower):
            await asyncio.sleep(1)
            async with make_bank() as owner:
                await pay(owner, "a", 5)
                with pytest.raises(NotBuilt):
                    await follower.query(GetPurses())

                async def told() -> str:
                    health = {one.part: one.what for one in (await follower.health()).problems}
                    return health.get("history of purse", "")

                async def told_to_be_fetched() -> bool:
                    return "being fetched" in await told()

                async def told_no_more() -> bool:
                    return not await told()

                await until(told_to_be_fetched, "health says that it is being fetched")
                async with Worker(owner):
                    await self.until_built(follower)
                    await self.until_amounts(follower, "a", [5])
                    await until(told_no_more, "health says nothing of it any more")

    async def test_a_last_event_that_was_lost_is_found_by_comparing(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        every = {"compare_every": 0.5, "sweep_every": 0.5}
        owner, follower = make_bank(), make_shop(**every)
        async with self.running(owner, follower):
            await pay(owner, "a", 1)
            await self.until_amounts(follower, "a", [1])
            await store(owner, payment("a", 2, 2, age=60), payment("b", 1, 7, age=60))
            await self.until_amounts(follower, "a", [1, 2], within=20)
            await self.until_amounts(follower, "b", [7])

    async def test_a_history_that_is_asked_for_again_brings_what_was_lost(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop(sweep_every=0.5)
        async with self.running(owner, follower):
            await pay(owner, "a", 1)
            await self.until_amounts(follower, "a", [1])
            await store(owner, payment("a", 2, 2), payment("b", 1, 7))
            assert await Projections(follower).fetch("purse") == owner.service
            await self.until_amounts(follower, "a", [1, 2], within=20)
            await self.until_amounts(follower, "b", [7])
            with pytest.raises(ProjectionError, match="followed: purse"):
                await Projections(follower).fetch("order")

    @pytest.mark.parametrize("token", ["", "of.somebody"])
    async def test_a_forged_end_of_history_is_no_end(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus], token: str
    ) -> None:
        async with make_bank() as owner:
            await store(owner, payment("a", 1, 1), payment("b", 1, 7))
            async with make_shop() as follower, Worker(follower):
                end = end_of_history(token)
                await forge(owner, follower.service, end)
                if token:
                    await self.until_refused(follower, 1)
                else:  # it may be of a release that knows of no tokens, so nobody is blamed
                    await self.until_taken(follower)
                assert not (await follower.runtime.history.progress("purse")).is_done
                async with Worker(owner):
                    await self.until_built(follower)
                    await self.until_amounts(follower, "a", [1])
                    await self.until_amounts(follower, "b", [7])
                    await forge(owner, follower.service, end)
                    await self.until_refused(follower, 1 + bool(token))

    async def test_forged_heads_do_not_end_the_comparing(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        every = {"compare_every": 0.5, "sweep_every": 0.5}
        owner, follower = make_bank(), make_shop(**every)
        async with self.running(owner, follower):
            future = clock.now() + timedelta(days=1000)
            forged = TellHeads(category="purse", versions={"purse-z": 9}, until=future)
            await forge(owner, follower.service, forged)
            await self.until_refused(follower, 1)
            await store(owner, payment("a", 1, 1, age=60))
            await self.until_amounts(follower, "a", [1], within=20)

    async def test_an_owner_of_the_release_before_tells_its_history_too(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        every = {"compare_every": 0.5, "sweep_every": 0.5}
        async with make_bank() as owner, make_shop(**every) as follower:
            earlier = payment("a", 1, 1)._replace(id="e", stream="mint-1", category="mint")
            await store(owner, earlier, payment("a", 1, 1), payment("b", 1, 7))
            answering = asyncio.create_task(former_owner(owner).run())
            try:
                async with Worker(follower):
                    await self.until_built(follower)
                    await self.until_amounts(follower, "a", [1])
                    await self.until_amounts(follower, "b", [7])
                    await store(owner, payment("a", 2, 2, age=60))
                    await self.until_amounts(follower, "a", [1, 2], within=20)
                    assert await DeadLetters(follower).list() == []
            finally:
                answering.cancel()

    async def test_another_services_category_by_ones_own_exchange_is_refused(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop()
        async with self.running(owner, follower):
            (forged,) = event_frames(payment("a", 1, 1000))
            assert not await follower.runtime.transport.publish([forged])

            async def refused() -> bool:
                return [one.error for one in await DeadLetters(follower).list()] == ["NotInTheLog"]

            await until(refused, "what came by the wrong exchange is refused")
            await tell(owner, [payment("a", 1, 1)])
            await self.until_amounts(follower, "a", [1])
            diary = diary_of(follower)
            await until(lambda: diary == ["purse-a@1"], "the true one is handled")
            retried = forged._replace(address="queue", topic=f"{follower.service}.thanks", id="r")
            assert not await owner.runtime.transport.publish([retried], must_route=True)
            await until(lambda: len(diary) == 2, "what is tried again comes straight to its queue")

    async def test_a_flood_that_nobody_can_read_makes_a_bounded_number_of_letters(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop()
        async with self.running(owner, follower):
            (frame,) = event_frames(payment("a", 1, 1))
            torn = [frame._replace(id=f"torn{n}", body=b"torn") for n in range(UNREAD + 50)]
            assert not await owner.runtime.transport.publish(torn)
            name = f"{follower.service}.purses"

            async def all_seen() -> bool:
                letters = await DeadLetters(follower).list(queue=name, limit=1000)
                return sum(one.seen for one in letters) == UNREAD + 50

            await until(all_seen, "all are told of")
            letters = await DeadLetters(follower).list(queue=name, limit=1000)
            assert len(letters) == UNREAD + 1
            assert [one.seen for one in letters if one.seen > 1] == [50]

    @pytest.mark.usefixtures("late_relay")
    async def test_event_handlers_get_another_services_events(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        async with make_bank() as owner, make_shop() as follower, Worker(follower):
            await pay(owner, "a", 1)
            await pay(owner, "a", 2)
            diary = diary_of(follower)
            await until(lambda: diary == ["purse-a@1", "purse-a@2"], "both are noted")

    async def test_history_is_not_sent_to_event_handlers_when_events_are_sent_again(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop()
        async with owner:
            await store(owner, *(payment("a", version, version, age=600) for version in (1, 2)))
            began = clock.now() - timedelta(minutes=5)
            async with self.running(owner, follower):
                await self.until_amounts(follower, "a", [1, 2])
                assert await self.sent_again(follower, began) == 0
                await pay(owner, "a", 3)
                await self.until_amounts(follower, "a", [1, 2, 3])
                assert await self.sent_again(follower, began) == 1

    async def sent_again(self, follower: Bus, since: datetime) -> int:
        found = await Events(follower).republish("thanks", since=since, dry_run=True)
        return found.events

    async def test_what_cannot_be_read_is_kept_and_stops_nobody(
        self, make_bank: Callable[..., Bus], make_shop: Callable[..., Bus]
    ) -> None:
        owner, follower = make_bank(), make_shop(gap_within=0.5)
        async with self.running(owner, follower):
            good = payment("a", 1, 1)
            (frame,) = event_frames(good)
            await store(owner, good, payment("a", 2, 2))
            stray = {**frame.headers, "stream": "order-o1"}
            for bad in (
                frame._replace(body=b"{"),
                frame._replace(body=b"[]"),
                frame._replace(name="Unheard", body=b"1e999"),
                frame._replace(headers=stray),
            ):
                assert not await owner.runtime.transport.publish([bad])
            await tell(owner, [payment("a", 2, 2)])
            await self.until_amounts(follower, "a", [1, 2], within=20)
            assert await follower.runtime.read_log.read("order-o1") == []

            async def kept() -> bool:
                """What the owner told again is here by now, and its letters are gone."""
                found = await DeadLetters(follower).list(queue=f"{follower.service}.purses")
                return [one.stream for one in found] == ["order-o1"]

            await until(kept, "one dead letter is left of that queue")


def diary_of(follower: Bus) -> Diary:
    """What its handler noted."""
    found = follower.runtime.dispatcher._provided.values[Diary]
    assert isinstance(found, Diary)
    return found

"""What an event handler's session promises, on any pair of transport and stores."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bus import (
    Bus,
    ConfigurationError,
    IdConflict,
    Session,
    Settings,
    Worker,
)
from bus.codec import envelopes_of, frames_of
from bus.common import clock
from bus.data.ids import derived_id
from bus.stores.event_log import Commit, Recorded
from bus.testing import written
from tests.service.mailing import Post, all_of, build, paid_in_total
from tests.service.wallet import Paid, Pay
from tests.waiting import until


class Broken(Exception):
    pass


class Mailing:
    """Subclasses give one fixture: `settings`, complete and with a database of its own."""

    @pytest.fixture
    def post(self) -> Post:
        return Post()

    @pytest.fixture
    def make(self, settings: Settings, post: Post, unique: str) -> Callable[..., Bus]:
        return lambda: build(settings, post, unique)

    @pytest.fixture
    async def bus(self, make: Callable[[], Bus]) -> AsyncIterator[Bus]:
        async with make() as bus:
            yield bus

    @pytest.fixture
    async def other(self, make: Callable[[], Bus]) -> AsyncIterator[Bus]:
        """The same service in what might be another process."""
        async with make() as bus:
            yield bus

    async def paid(self, bus: Bus, wallet: str = "a", amount: int = 7, mood: str = "") -> Commit:
        await bus.execute(Pay(wallet_id=wallet, amount=amount, mood=mood))
        return (await bus.runtime.event_log.read(f"wallet-{wallet}"))[-1]

    async def handle(self, bus: Bus, commit: Commit) -> None:
        (envelope,) = envelopes_of(commit, {"Paid": Paid})
        await bus.runtime.dispatcher.handle("mailing", envelope)

    async def assert_nothing_happened(self, bus: Bus) -> None:
        assert await all_of(bus, "mail_queue") == []
        assert await paid_in_total(bus) == 0
        assert await bus.runtime.event_log.read("ledger-a") == []

    async def assert_happened_once(self, bus: Bus, commit: Commit) -> None:
        assert await all_of(bus, "mail_queue") == [{"_id": f"{commit.id}:1", "copies": 1}]
        assert await paid_in_total(bus) == 7
        (booked,) = await bus.runtime.event_log.read("ledger-a")
        assert [event.data for event in booked.events] == [{"amount": 7}]
        assert [command.name for command in booked.outgoing] == ["Thank"]


class SessionContract(Mailing):
    """What is promised whoever delivers the events."""

    async def test_of_duplicates_at_the_same_time_one_has_its_effect(
        self, bus: Bus, other: Bus, post: Post
    ) -> None:
        commit = await self.paid(bus)
        both = [self.handle(one, commit) for one in (bus, other) for _ in range(10)]
        await asyncio.gather(*both)
        await self.assert_happened_once(bus, commit)

    async def test_the_mark_suffices_where_the_handler_records_nothing(
        self, bus: Bus, other: Bus, post: Post
    ) -> None:
        commit = await self.paid(bus, mood="records nothing")
        await asyncio.gather(*(self.handle(one, commit) for one in (bus, other) for _ in range(5)))
        await self.handle(bus, commit)
        assert await all_of(bus, "mail_queue") == [{"_id": f"{commit.id}:1", "copies": 1}]
        assert await paid_in_total(bus) == 7

    async def test_an_exception_leaves_neither_effect_nor_mark(self, bus: Bus, post: Post) -> None:
        async def breaks(session: Session) -> None:
            raise Broken

        commit = await self.paid(bus)
        post.meanwhile = breaks
        with pytest.raises(Broken):
            await self.handle(bus, commit)
        await self.assert_nothing_happened(bus)
        post.meanwhile = Post().meanwhile
        await self.handle(bus, commit)
        await self.assert_happened_once(bus, commit)

    async def test_a_cancelled_handler_leaves_neither_effect_nor_mark(
        self, bus: Bus, post: Post
    ) -> None:
        reached, forever = asyncio.Event(), asyncio.Event()

        async def hangs(session: Session) -> None:
            reached.set()
            await forever.wait()

        commit = await self.paid(bus)
        post.meanwhile = hangs
        handling = asyncio.create_task(self.handle(bus, commit))
        await asyncio.wait_for(reached.wait(), 30)
        handling.cancel()
        await asyncio.gather(handling, return_exceptions=True)
        assert handling.cancelled()
        await self.assert_nothing_happened(bus)
        post.meanwhile = Post().meanwhile
        await self.handle(bus, commit)
        await self.assert_happened_once(bus, commit)

    async def test_where_an_aggregate_moved_on_the_handler_runs_again_and_counts_once(
        self, bus: Bus, other: Bus, post: Post
    ) -> None:
        async def be_first(session: Session) -> None:
            if post.runs == 1:
                await other.runtime.event_log.append([first_booking("ledger-a", amount=1)])

        commit = await self.paid(bus)
        post.meanwhile = be_first
        await self.handle(bus, commit)
        assert post.runs == 2
        assert await paid_in_total(bus) == 7
        ledger = await bus.runtime.event_log.read("ledger-a")
        assert [(c.first, c.events[0].data["amount"]) for c in ledger] == [(1, 1), (2, 7)]

    async def test_many_that_count_in_one_document_count_exactly(
        self, bus: Bus, other: Bus, post: Post
    ) -> None:
        commits = [await self.paid(bus, f"w{n}", amount=n) for n in range(32)]
        buses = [bus, other] * 16
        await asyncio.gather(*(self.handle(one, c) for one, c in zip(buses, commits, strict=True)))
        assert await paid_in_total(bus) == sum(range(32))
        assert len(await all_of(bus, "mail_queue")) == 32

    async def test_what_was_written_is_there_to_be_compared(self, bus: Bus) -> None:
        assert await written(bus, "mail_queue") == {}
        commit = await self.paid(bus)
        await self.handle(bus, commit)
        assert await written(bus, "mail_queue") == {f"{commit.id}:1": {"copies": 1}}
        assert await written(bus, "totals") == {"all": {"paid": 7}}
        for name in ("commits", "wallets"):
            with pytest.raises(ConfigurationError, match=f"'{name}'.*belongs to"):
                await written(bus, name)

    async def test_commits_with_the_handlers_id_count_as_a_mark_too(
        self, bus: Bus, post: Post
    ) -> None:
        """As when the mark has expired."""
        commit = await self.paid(bus)
        await self.handle(bus, commit)
        await self.forget(bus)
        await self.handle(bus, commit)
        assert post.runs == 2
        await self.assert_happened_once(bus, commit)

    async def test_what_stands_under_the_handlers_id_and_has_another_cause_is_told(
        self, bus: Bus, post: Post
    ) -> None:
        commit = await self.paid(bus)
        id = derived_id(f"{commit.event_id(0)}>{bus.service}.mailing")
        other = first_booking("ledger-other", 1)._replace(id=id, causation_id="another")
        await bus.runtime.event_log.append([other])
        with pytest.raises(IdConflict, match=r"what followed from .* another"):
            await self.handle(bus, commit)

    async def forget(self, bus: Bus) -> None:
        raise NotImplementedError


class RedeliveryContract(Mailing):
    """What is promised of events that a broker delivers again."""

    async def test_an_effect_happens_once_however_often_its_event_is_delivered(
        self, bus: Bus, other: Bus, post: Post
    ) -> None:
        commit = await self.paid(bus)
        (frame,) = frames_of(commit)
        await bus.runtime.transport.publish([frame] * 20)
        only = ["mailing", "commands"]
        async with Worker(bus, only=only), Worker(other, only=only):
            await until(lambda: post.done == 21, "all deliveries are handled")
            thanked = bus.runtime.event_log.read
            await until(lambda: _two(thanked("wallet-a")), "the command is carried out")
        await self.assert_happened_once(bus, commit)
        assert len(await thanked("wallet-a")) == 2


def first_booking(stream: str, amount: int) -> Commit:
    """The first commit of a ledger, as another handler would store it."""
    event = Recorded("Booked", 1, {"amount": amount})
    return Commit("b", stream, "ledger", 1, (event,), clock.now(), "c")


async def _two(found: Any) -> bool:
    return len(await found) == 2

"""What an event handler's session promises, on any pair of transport and stores."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from bus import (
    Bus,
    BusError,
    ConfigurationError,
    IdConflict,
    ProjectionError,
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

    async def test_values_of_python_are_read_back_and_found_within_and_after(
        self, bus: Bus, post: Post
    ) -> None:
        written = {"price": Decimal("1.10"), "until": datetime(2024, 2, 29, 12, tzinfo=UTC)}
        kept = {"day": date(2024, 2, 29), "key": UUID(int=1), "tags": {"b", "a"}}

        async def write(session: Session) -> None:
            offers = session.documents("offers")
            await offers.update("a", {"$set": {**written, **kept}, "$inc": {"sum": Decimal("0.1")}})
            await offers.update("a", {"$inc": {"sum": Decimal("0.2")}})
            for filter in ({name: value} for name, value in (written | kept).items()):
                assert await offers.count(filter) == 1
            found = await offers.find_one({"day": {"$lt": date(2024, 3, 1)}, "sum": Decimal("0.3")})
            assert found is not None
            assert written.items() <= found.items()
            with pytest.raises(ProjectionError, match=r"'until'.*without a zone"):
                await offers.update("a", {"$set": {"until": datetime(2024, 1, 1)}})

        post.meanwhile = write
        await self.handle(bus, await self.paid(bus))
        forms = {"day": "2024-02-29", "key": str(UUID(int=1)), "tags": ["a", "b"]}
        expected = {"_id": "a", **written, **forms, "sum": Decimal("0.3")}
        assert await all_of(bus, "offers") == [expected]

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

    async def test_a_session_sees_its_own_writes_and_nobody_else_does(
        self, bus: Bus, post: Post
    ) -> None:
        seen: list[Any] = []

        async def look(session: Session) -> None:
            mails = session.documents("mail_queue")
            seen.append(await mails.count({}))
            seen.append(len(await all_of(bus, "mail_queue")))
            await session.documents("totals").delete("all")

        commit = await self.paid(bus)
        post.meanwhile = look
        await self.handle(bus, commit)
        assert seen == [1, 0]
        assert await all_of(bus, "totals") == []

    async def test_what_was_written_is_there_to_be_compared(self, bus: Bus) -> None:
        assert await written(bus, "mail_queue") == {}
        commit = await self.paid(bus)
        await self.handle(bus, commit)
        assert await written(bus, "mail_queue") == {f"{commit.id}:1": {"copies": 1}}
        assert await written(bus, "totals") == {"all": {"paid": 7}}
        for name in ("commits", "wallets"):
            with pytest.raises(ConfigurationError, match=f"'{name}'.*belongs to"):
                await written(bus, name)

    async def test_collections_of_the_bus_and_of_projections_are_refused(
        self, bus: Bus, post: Post
    ) -> None:
        commit = await self.paid(bus)
        for name, owner in [("commits", "the bus"), ("handled", "the bus"), ("wallets", "a proj")]:

            async def intrude(session: Session, name: str = name) -> None:
                session.documents(name)

            post.meanwhile = intrude
            with pytest.raises(ConfigurationError, match=f"'{name}'.*belongs to {owner}"):
                await self.handle(bus, commit)

    async def test_a_name_that_no_collection_can_have_is_refused(
        self, bus: Bus, post: Post
    ) -> None:
        names: list[Any] = ["", "$x", "a$b", "a\0b", ".a", "a.", "a..b", "a" * 191, 5, None]
        refused: list[Any] = []

        async def ask(session: Session) -> None:
            for name in names:
                with pytest.raises(ConfigurationError, match=r"^session\.documents\(.*: (no|a) co"):
                    session.documents(name)
                refused.append(name)
            await session.documents("a.b-c é").update("k", {"$set": {"n": 1}})

        post.meanwhile = ask
        await self.handle(bus, await self.paid(bus))
        assert refused == names
        assert await all_of(bus, "a.b-c é") == [{"_id": "k", "n": 1}]

    async def test_a_key_that_is_no_text_is_refused_and_the_session_goes_on(
        self, bus: Bus, post: Post
    ) -> None:
        keys: list[Any] = [UUID(int=1), None, 5, (1, 2), b"k", ""]

        async def write(session: Session) -> None:
            offers = session.documents("offers")
            for key in keys:
                for refused in (offers.update(key, {"$set": {"n": 1}}), offers.delete(key)):
                    words = r"^session\.documents\('offers'\): a document's key (must be|is not)"
                    with pytest.raises(ProjectionError, match=words):
                        await refused
            await offers.update("k", {"$set": {"n": len(keys)}})

        post.meanwhile = write
        await self.handle(bus, await self.paid(bus))
        assert await all_of(bus, "offers") == [{"_id": "k", "n": len(keys)}]

    async def test_what_is_refused_at_the_call_has_a_sessions_remedy_and_the_session_goes_on(
        self, bus: Bus, post: Post
    ) -> None:
        updates: list[tuple[Any, str]] = [
            ({}, r"is empty; give a dict .* or call nothing where"),
            (None, r"is of type NoneType; give a dict"),
            ({"$set": {"_id": "q"}}, r"_id, .*choose that as what update\(key, \.\.\.\) gets"),
            ({"$set": {"n": 2**70}}, r"'k', \$set of 'n': .*8-byte ints; docs/projections"),
            ({"$set": {"n": 1}, "$inc": {"n": 1}}, r"'k' writes one field twice"),
            ({"$bogus": {"n": 1}}, r"'\$bogus', which is no MongoDB update operator"),
        ]

        async def write(session: Session) -> None:
            offers = session.documents("offers")
            for update, words in updates:
                with pytest.raises(ProjectionError, match=words):
                    await offers.update("k", update)
            with pytest.raises(ProjectionError, match="8-byte ints"):
                await offers.find({"n": 2**70})
            with pytest.raises(ProjectionError, match="limit=-1"):
                await offers.find({}, limit=-1)
            await offers.update("k", {"$set": {"n": 1}})

        post.meanwhile = write
        await self.handle(bus, await self.paid(bus))
        assert post.runs == 1
        assert await all_of(bus, "offers") == [{"_id": "k", "n": 1}]

    async def test_an_error_of_its_documents_that_a_handler_swallows_leaves_nothing(
        self, bus: Bus, post: Post
    ) -> None:
        async def update(session: Session) -> None:
            await session.documents("totals").update("all", {"$push": {"paid": 1}})

        async def find(session: Session) -> None:
            await session.documents("totals").find({"paid": {"$in": 1}})

        commit = await self.paid(bus)
        for refused in (update, find):

            async def swallow(
                session: Session, refused: Callable[[Session], Awaitable[None]] = refused
            ) -> None:
                with pytest.raises(ProjectionError):
                    await refused(session)
                with suppress(BusError):
                    await session.documents("mail_queue").update("late", {"$set": {"n": 1}})

            post.meanwhile = swallow
            with pytest.raises(ProjectionError, match=r"had ended .*swallowed the error"):
                await self.handle(bus, commit)
            await self.assert_nothing_happened(bus)
        post.meanwhile = Post().meanwhile
        await self.handle(bus, commit)
        await self.assert_happened_once(bus, commit)

    async def test_a_session_refuses_every_use_once_its_handler_has_ended(
        self, bus: Bus, post: Post
    ) -> None:
        kept: list[Any] = []

        async def keep(session: Session) -> None:
            kept.extend([session, session.documents("offers")])

        post.meanwhile = keep
        commit = await self.paid(bus)
        await self.handle(bus, commit)
        session, offers = kept
        uses: list[Callable[[], Awaitable[Any]]] = [
            lambda: offers.update("k", {"$set": {"n": 1}}),
            lambda: offers.delete("k"),
            lambda: offers.find({}),
            lambda: offers.find_one({}),
            lambda: offers.count({}),
            lambda: offers.distinct("n", {}),
        ]
        for use in uses:
            with pytest.raises(ProjectionError, match=r"'offers'.*has ended.*await each"):
                await use()
        asking: list[Callable[[], Any]] = [
            lambda: session.documents("offers"),
            lambda: session.native,
            lambda: session.database,
        ]
        for ask in asking:
            with pytest.raises(ProjectionError, match=r"^session\.\w+: its handler has ended"):
                ask()
        assert await all_of(bus, "offers") == []

    async def test_a_task_that_a_handler_forgot_writes_into_no_other_events_transaction(
        self, bus: Bus, post: Post
    ) -> None:
        forgotten: list[asyncio.Task[None]] = []
        begun = asyncio.Event()
        first, second = await self.paid(bus, "a"), await self.paid(bus, "b")

        async def later(session: Session) -> None:
            documents = session.documents("offers")

            async def write() -> None:
                await begun.wait()
                await documents.update("lost", {"$set": {"n": 1}})

            forgotten.append(asyncio.create_task(write()))

        async def meanwhile(session: Session) -> None:
            begun.set()
            await asyncio.gather(*forgotten, return_exceptions=True)
            await session.documents("offers").update("own", {"$set": {"n": 1}})

        post.meanwhile = later
        await self.handle(bus, first)
        post.meanwhile = meanwhile
        await self.handle(bus, second)
        assert await all_of(bus, "offers") == [{"_id": "own", "n": 1}]
        with pytest.raises(ProjectionError, match="its handler has ended"):
            await forgotten[0]

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

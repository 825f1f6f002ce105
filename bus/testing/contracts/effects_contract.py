"""What every store of handlers' effects promises: what they write happens once and whole, or not.

Subclasses provide the fixtures `event_log` and `effects`, and close both. The latter is open over
that log and otherwise empty, and knows the projection `wallets`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from bus.common import clock
from bus.data.payload import Document
from bus.errors import (
    BusError,
    ConcurrencyError,
    ConfigurationError,
    InvalidMessage,
    ProjectionError,
    StoreUnavailable,
)
from bus.stores.event_log import Commit, EventLog, Recorded
from bus.stores.session import Effects, Session

Write = Callable[[Session], Awaitable[None]]


class Broken(Exception):
    """A handler's own error."""


def booking(stream: str = "ledger-a", *, id: str = "", first: int = 1) -> Commit:
    """Returns a commit of one event."""
    event = Recorded("Booked", 1, {"amount": 7})
    return Commit(
        id=id or clock.new_id(),
        stream=stream,
        category="ledger",
        first=first,
        events=(event,),
        time=clock.now(),
        correlation_id="c",
    )


def handling(write: Write, *commits: Commit) -> Callable[[Session], Awaitable[Sequence[Commit]]]:
    """Returns a handler that writes by its session and returns commits."""

    async def handle(session: Session) -> Sequence[Commit]:
        await write(session)
        return commits

    return handle


async def counted(session: Session) -> None:
    """Adds one in the one document that all share."""
    totals = session.documents("totals")
    await asyncio.sleep(0)
    await totals.update("all", {"$inc": {"n": 1}})


async def handled(effects: Effects, write: Write, *commits: Commit) -> None:
    """Handles an event that nobody has handled yet."""
    assert await effects.once(clock.new_id(), handling(write, *commits)) is not None


async def committed(
    effects: Effects, write: Write, commit: Commit, tries: int = 50
) -> Sequence[Commit]:
    """Runs a command's handler; again after a conflict, as a dispatcher does."""
    for _ in range(tries - 1):
        with suppress(ConcurrencyError):
            return await effects.commit(handling(write, commit))
        await asyncio.sleep(0.01)
    return await effects.commit(handling(write, commit))


async def all_of(effects: Effects, collection: str) -> list[Document]:
    """Returns the documents of a collection, as the next handler finds them."""
    found: list[Document] = []

    async def look(session: Session) -> None:
        found[:] = await session.documents(collection).find({}, sort=[("_id", 1)])

    await handled(effects, look)
    return found


class EffectsContract:
    """Marks, commits and documents in one transaction."""

    async def test_documents_commits_and_mark_are_stored_at_once_and_once(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        commit = booking(id="e1/2")
        stored = await effects.once("e1", handling(counted, commit))
        assert stored is not None
        assert [commit.id for commit in stored] == ["e1/2"]
        for _ in range(2):
            assert await effects.once("e1", handling(counted, booking(id="e1/2"))) is None
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]
        assert [commit.id for commit in await event_log.read("ledger-a")] == ["e1/2"]

    async def test_of_duplicates_at_the_same_time_one_has_its_effect(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        tries = [effects.once("e1", handling(counted, booking(id="k"))) for _ in range(10)]
        results = await asyncio.gather(*tries)
        assert sum(result is not None for result in results) == 1
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]
        assert len(await event_log.read("ledger-a")) == 1

    async def test_the_mark_suffices_where_nothing_else_is_stored(self, effects: Effects) -> None:
        async def nothing(session: Session) -> None:
            runs.append(session)

        runs: list[Session] = []
        assert await effects.once("e1", handling(nothing)) == ()
        assert await effects.once("e1", handling(nothing)) is None
        assert len(runs) == 1

    async def test_many_that_count_in_one_document_count_exactly(self, effects: Effects) -> None:
        await asyncio.gather(*[handled(effects, counted) for _ in range(16)])
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 16}]

    async def test_an_exception_leaves_neither_effect_nor_mark(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        async def breaks(session: Session) -> None:
            await counted(session)
            raise Broken

        with pytest.raises(Broken):
            await effects.once("e1", handling(breaks, booking()))
        assert await all_of(effects, "totals") == []
        assert await event_log.read("ledger-a") == []
        assert await effects.once("e1", handling(counted)) is not None

    async def test_a_cancelled_handler_leaves_neither_effect_nor_mark(
        self, effects: Effects
    ) -> None:
        async def hangs(session: Session) -> None:
            await counted(session)
            reached.set()
            await asyncio.Event().wait()

        reached = asyncio.Event()
        task = asyncio.create_task(_once(effects, "e1", hangs))
        await asyncio.wait_for(reached.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert await all_of(effects, "totals") == []
        assert await effects.once("e1", handling(counted)) is not None

    async def test_where_a_stream_has_moved_on_nothing_is_stored(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        await event_log.append([booking()])
        with pytest.raises(ConcurrencyError):
            await effects.once("e1", handling(counted, booking()))
        assert await all_of(effects, "totals") == []
        assert await effects.once("e1", handling(counted, booking(first=2))) is not None
        assert [commit.first for commit in await event_log.read("ledger-a")] == [1, 2]

    async def test_marks_are_told_page_by_page_and_forgotten(self, effects: Effects) -> None:
        for id in ("e2", "e1", "e3"):
            await effects.once(id, handling(counted))
        assert await effects.marks("", 2) == ["e1", "e2"]
        assert await effects.marks("e2", 9) == ["e3"]
        await effects.forget(["e1", "e3", "e9"])
        assert await effects.marks("", 9) == ["e2"]
        assert await effects.once("e1", handling(counted)) is not None

    async def test_a_commit_that_is_stored_already_counts_as_a_mark(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        """It does so once the mark has expired, say."""
        await effects.once("e1", handling(counted, booking(id="k")))
        await effects.forget(["e1"])
        assert await effects.once("e1", handling(counted, booking(id="k"))) is None
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]
        assert len(await event_log.read("ledger-a")) == 1

    async def test_values_of_python_are_read_back_and_found_within_and_after(
        self, effects: Effects
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

        await handled(effects, write)
        forms = {"day": "2024-02-29", "key": str(UUID(int=1)), "tags": ["a", "b"]}
        expected = {"_id": "a", **written, **forms, "sum": Decimal("0.3")}
        assert await all_of(effects, "offers") == [expected]

    async def test_a_session_sees_its_own_writes_and_nobody_else_does(
        self, effects: Effects
    ) -> None:
        seen: list[Any] = []

        async def look(session: Session) -> None:
            await session.documents("offers").update("a", {"$set": {"n": 1}})
            seen.append(await session.documents("offers").count({}))
            seen.append(len(await all_of(effects, "offers")))
            await session.documents("totals").delete("all")

        await handled(effects, counted)
        await handled(effects, look)
        assert seen == [1, 0]
        assert await all_of(effects, "totals") == []

    async def test_collections_of_the_bus_and_of_projections_are_refused(
        self, effects: Effects
    ) -> None:
        for name, owner in [("commits", "the bus"), ("handled", "the bus"), ("wallets", "a proj")]:

            async def intrude(session: Session, name: str = name) -> None:
                session.documents(name)

            with pytest.raises(ConfigurationError, match=f"'{name}'.*belongs to {owner}"):
                await handled(effects, intrude)

    async def test_a_name_that_no_collection_can_have_is_refused(self, effects: Effects) -> None:
        names: list[Any] = ["", "$x", "a$b", "a\0b", ".a", "a.", "a..b", "a" * 191, 5, None]
        refused: list[Any] = []

        async def ask(session: Session) -> None:
            for name in names:
                with pytest.raises(ConfigurationError, match=r"^session\.documents\(.*: (no|a) co"):
                    session.documents(name)
                refused.append(name)
            await session.documents("a.b-c é").update("k", {"$set": {"n": 1}})

        await handled(effects, ask)
        assert refused == names
        assert await all_of(effects, "a.b-c é") == [{"_id": "k", "n": 1}]

    async def test_a_key_that_is_no_text_is_refused_and_the_session_goes_on(
        self, effects: Effects
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

        await handled(effects, write)
        assert await all_of(effects, "offers") == [{"_id": "k", "n": len(keys)}]

    async def test_what_is_refused_at_the_call_has_a_sessions_remedy_and_the_session_goes_on(
        self, effects: Effects
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

        await handled(effects, write)
        assert await all_of(effects, "offers") == [{"_id": "k", "n": 1}]

    async def test_an_error_of_its_documents_that_a_handler_swallows_leaves_nothing(
        self, effects: Effects
    ) -> None:
        async def update(session: Session) -> None:
            await session.documents("totals").update("all", {"$push": {"n": 1}})

        async def find(session: Session) -> None:
            await session.documents("totals").find({"n": {"$in": 1}})

        for refused in (update, find):

            async def swallow(session: Session, refused: Write = refused) -> None:
                await counted(session)
                with pytest.raises(ProjectionError):
                    await refused(session)
                with suppress(BusError):
                    await session.documents("offers").update("late", {"$set": {"n": 1}})

            with pytest.raises(ProjectionError, match=r"had ended .*swallowed the error"):
                await effects.once("e1", handling(swallow))
        assert await effects.marks("", 9) == []
        assert await all_of(effects, "totals") == []
        assert await all_of(effects, "offers") == []

    async def test_a_session_refuses_every_use_once_its_handler_has_ended(
        self, effects: Effects
    ) -> None:
        kept: list[Any] = []

        async def keep(session: Session) -> None:
            kept.extend([session, session.documents("offers")])

        await handled(effects, keep)
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
        assert await all_of(effects, "offers") == []

    async def test_a_task_that_a_handler_forgot_writes_into_no_other_events_transaction(
        self, effects: Effects
    ) -> None:
        forgotten: list[asyncio.Task[None]] = []
        begun = asyncio.Event()

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

        await handled(effects, later)
        await handled(effects, meanwhile)
        assert await all_of(effects, "offers") == [{"_id": "own", "n": 1}]
        with pytest.raises(ProjectionError, match="its handler has ended"):
            await forgotten[0]

    async def test_a_commands_documents_and_commits_are_stored_at_once_and_once(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        first, other = booking(id="k"), booking("ledger-b", id="k/2")
        own = (first, other)
        stored = await effects.commit(handling(counted, *own))
        assert list(stored) == [first, other]
        assert await event_log.find("k") == [first, other]
        assert len(await event_log.pending(clock.now() + timedelta(seconds=9), 9)) == 2
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]

    async def test_what_is_stored_is_the_very_commits_of_the_run_that_counts(
        self, effects: Effects
    ) -> None:
        runs: list[Sequence[Commit]] = []

        async def run(session: Session) -> Sequence[Commit]:
            await counted(session)
            runs.append([booking(id="k")])
            return runs[-1]

        stored = await effects.commit(run)
        assert any(stored is commits for commits in runs)
        repeat = await effects.commit(run)
        assert all(repeat is not commits for commits in runs)
        assert list(repeat) == list(stored)

    async def test_a_repeat_gets_what_was_stored_first_and_writes_nothing(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        kept = booking(id="k")._replace(events=(), result={"price": 7})
        assert list(await effects.commit(handling(counted, kept))) == [kept]
        for repeat in (kept, kept._replace(result={"price": 8}), booking("ledger-b", id="k")):
            assert list(await effects.commit(handling(counted, repeat))) == [kept]
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]
        assert await event_log.read("ledger-b") == []

    async def test_of_one_id_many_times_at_once_one_run_has_its_effect(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        tries = [committed(effects, counted, booking(id="k")) for _ in range(10)]
        found = await asyncio.gather(*tries)
        assert {commit.id for stored in found for commit in stored} == {"k"}
        assert len({stored[0].time for stored in found}) == 1
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]
        assert len(await event_log.read("ledger-a")) == 1

    async def test_many_commands_that_count_in_one_document_count_exactly(
        self, effects: Effects
    ) -> None:
        bookings = [booking(f"ledger-{n}") for n in range(16)]
        await asyncio.gather(*[committed(effects, counted, own) for own in bookings])
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 16}]

    async def test_where_a_place_is_taken_a_command_writes_nothing(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        await event_log.append([booking(id="earlier")])
        for own in ([booking(id="k")], [booking("ledger-b", id="k"), booking(id="k/2")]):
            with pytest.raises(ConcurrencyError, match="ledger-a"):
                await effects.commit(handling(counted, *own))
        assert await all_of(effects, "totals") == []
        assert await event_log.find("k") == []
        assert await event_log.read("ledger-b") == []
        assert await effects.commit(handling(counted, booking(id="k", first=2)))

    async def test_a_commands_exception_or_cancellation_leaves_nothing(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        async def breaks(session: Session) -> None:
            await counted(session)
            raise Broken

        async def hangs(session: Session) -> None:
            await counted(session)
            reached.set()
            await asyncio.Event().wait()

        reached = asyncio.Event()
        with pytest.raises(Broken):
            await effects.commit(handling(breaks, booking(id="k")))
        task = asyncio.ensure_future(effects.commit(handling(hangs, booking(id="k"))))
        await asyncio.wait_for(reached.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert await event_log.find("k") == []
        assert await committed(effects, counted, booking(id="k"))
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]

    async def test_a_command_sets_no_mark(self, effects: Effects) -> None:
        await effects.commit(handling(counted, booking(id="k")))
        assert await effects.marks("", 9) == []

    async def test_a_commit_that_cannot_be_stored_leaves_no_documents(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        large = Recorded("Booked", 1, {"text": "x" * 17_000_000})
        with pytest.raises(InvalidMessage, match="cannot be stored"):
            await effects.commit(handling(counted, booking(id="k")._replace(events=(large,))))
        assert await all_of(effects, "totals") == []
        assert await event_log.find("k") == []

    async def test_an_error_that_a_commands_handler_swallows_leaves_nothing(
        self, effects: Effects, event_log: EventLog
    ) -> None:
        async def swallow(session: Session) -> None:
            await counted(session)
            with suppress(ProjectionError):
                await session.documents("totals").update("all", {"$push": {"n": 1}})

        with pytest.raises(ProjectionError, match=r"had ended .*swallowed the error"):
            await effects.commit(handling(swallow, booking(id="k")))
        assert await all_of(effects, "totals") == []
        assert await event_log.find("k") == []

    async def test_marks_of_another_log_are_remembered(self, effects: Effects) -> None:
        await effects.once("here", handling(counted))
        await effects.remember(["moved", "here"])
        await effects.remember(["moved"])
        assert await effects.marks("", 10) == ["here", "moved"]
        now = clock.now()
        assert await effects.marks("", 10, now - timedelta(minutes=1)) == ["here", "moved"]
        assert await effects.marks("", 10, now + timedelta(minutes=1)) == []
        assert await effects.once("moved", handling(counted)) is None
        assert await effects.once("here", handling(counted)) is None
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]

    async def test_behind_a_fence_of_the_log_nothing_is_handled(
        self, event_log: EventLog, effects: Effects
    ) -> None:
        await event_log.fence("the log went to the moon")
        for commits in ([booking()], []):
            with pytest.raises(StoreUnavailable, match="to the moon"):
                await effects.once("a", handling(counted, *commits))
        await effects.remember(["moved"])
        assert await effects.marks("", 10) == ["moved"]
        await event_log.unfence()
        assert await effects.once("moved", handling(counted)) is None
        assert await effects.once("a", handling(counted)) == ()
        assert await all_of(effects, "totals") == [{"_id": "all", "n": 1}]


async def _once(effects: Effects, id: str, write: Write) -> None:
    await effects.once(id, handling(write))

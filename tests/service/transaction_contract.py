"""What is promised of a command with a session, and of streams that events name, on any stores."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bus import (
    Bus,
    ConcurrencyError,
    ConfigurationError,
    DeadLetters,
    IdConflict,
    InvalidMessage,
    Outbox,
    ProjectionError,
    Projections,
    Receipt,
    RemoteError,
    ResultUnreadable,
    Router,
    Session,
    Settings,
    Worker,
    signals,
)
from bus.common import clock
from bus.dispatch.middleware import Next
from bus.messages import Envelope
from bus.stores.event_log import Commit, Recorded
from tests.service.pricing import (
    Announce,
    Count,
    Counted,
    GetPriceList,
    PriceListView,
    PriceSet,
    Probe,
    Reprice,
    all_of,
    build,
    versions_of,
)
from tests.waiting import until


class Broken(Exception):
    pass


class Pricing:
    """Subclasses give one fixture: `settings`, complete and with a database of its own."""

    @pytest.fixture
    def probe(self) -> Probe:
        return Probe()

    @pytest.fixture
    def make(self, settings: Settings, probe: Probe, unique: str) -> Callable[..., Bus]:
        return lambda **more: build(settings, probe, unique, **more)

    @pytest.fixture
    async def bus(self, make: Callable[..., Bus]) -> AsyncIterator[Bus]:
        async with make() as bus:
            yield bus

    @pytest.fixture
    async def other(self, make: Callable[..., Bus]) -> AsyncIterator[Bus]:
        """The same service in what might be another process."""
        async with make() as bus:
            yield bus

    async def assert_nothing_happened(self, bus: Bus) -> None:
        assert await all_of(bus, "totals") == []
        for stream in ("article-a", "market-eur", "price_list-eur"):
            assert await bus.runtime.event_log.read(stream) == []

    async def assert_happened_once(self, bus: Bus) -> None:
        assert await all_of(bus, "totals") == [{"_id": "all", "changes": 1}]
        assert await versions_of(bus, "article-a") == [(1, {"price": 7})]
        for stream in ("market-eur", "price_list-eur"):
            assert await versions_of(bus, stream) == [(1, {"article": "a", "price": 7})]
        (first,) = await bus.runtime.event_log.read("article-a")
        assert [command.name for command in first.outgoing] == ["Note"]


REPRICE = Reprice(market="eur", article="a", price=7)


class TransactionContract(Pricing):
    """What needs no worker."""

    async def test_a_command_of_documents_alone_happens_once_for_its_id(
        self, bus: Bus, other: Bus, probe: Probe
    ) -> None:
        first = await bus.execute(Count(article="a", pieces=[2, 3]), id="k1")
        assert first == Receipt("k1", {}, Counted(article="a", left=5))
        for one in (bus, other):
            assert await one.execute(Count(article="a", pieces=[2, 3]), id="k1") == first
        assert probe.runs == 1
        assert await all_of(bus, "stock") == [{"_id": "a", "left": 5}]
        with pytest.raises(IdConflict, match="with other content"):
            await bus.execute(Count(article="a", pieces=[4]), id="k1")
        with pytest.raises(IdConflict, match="used before, by Count"):
            await bus.execute(REPRICE, id="k1")
        assert await all_of(bus, "stock") == [{"_id": "a", "left": 5}]

    async def test_its_id_is_stored_though_the_bus_chose_it(self, bus: Bus) -> None:
        receipt = await bus.execute(Count(article="a"))
        (kept,) = await bus.runtime.event_log.find(receipt.id)
        assert kept.events == ()
        assert kept.result == {"article": "a", "left": 1}

    async def test_its_id_is_stored_with_the_documents_and_by_no_second_write(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log, appended = bus.runtime.event_log, []
        append = log.append

        async def counted(commits: Any) -> Any:
            appended.append(commits)
            return await append(commits)

        monkeypatch.setattr(log, "append", counted)
        await bus.execute(Count(article="a"), id="k1")
        assert len(appended) <= 1  # in memory, its transaction appends

    async def test_of_one_id_many_times_at_once_one_has_its_effect(
        self, bus: Bus, other: Bus
    ) -> None:
        buses = [bus, other] * 5
        receipts = await asyncio.gather(*(one.execute(REPRICE, id="k1") for one in buses))
        assert len({tuple(sorted(receipt.versions.items())) for receipt in receipts}) == 1
        assert {receipt.result for receipt in receipts} == {1}
        await self.assert_happened_once(bus)

    async def test_of_documents_alone_many_times_at_once_one_has_its_effect(
        self, bus: Bus, other: Bus
    ) -> None:
        receipts = await asyncio.gather(
            *(one.execute(Count(article="a"), id="k1") for one in [bus, other] * 5)
        )
        assert {receipt.result.left for receipt in receipts} == {1}
        assert await all_of(bus, "stock") == [{"_id": "a", "left": 1}]

    async def test_many_commands_on_one_document_count_exactly(self, bus: Bus, other: Bus) -> None:
        await asyncio.gather(
            *(one.execute(Count(article="a", pieces=[1])) for one in [bus, other] * 16)
        )
        assert await all_of(bus, "stock") == [{"_id": "a", "left": 32}]

    async def test_two_aggregates_a_named_stream_and_a_document_are_one(self, bus: Bus) -> None:
        receipt = await bus.execute(REPRICE)
        assert receipt.versions == {"article-a": 1, "market-eur": 1, "price_list-eur": 1}
        assert receipt.result == 1
        await self.assert_happened_once(bus)
        commits = await bus.runtime.event_log.find(receipt.id)
        assert [commit.id for commit in commits] == [
            receipt.id,
            f"{receipt.id}/2",
            f"{receipt.id}/3",
        ]

    async def test_a_handler_that_raises_late_leaves_nothing(self, bus: Bus, probe: Probe) -> None:
        async def breaks(session: Session) -> None:
            raise Broken

        probe.meanwhile = breaks
        with pytest.raises(Broken):
            await bus.execute(REPRICE, id="k1")
        await self.assert_nothing_happened(bus)
        probe.meanwhile = Probe().meanwhile
        await bus.execute(REPRICE, id="k1")
        await self.assert_happened_once(bus)

    async def test_a_cancelled_command_leaves_nothing(self, bus: Bus, probe: Probe) -> None:
        reached = asyncio.Event()

        async def hangs(session: Session) -> None:
            reached.set()
            await asyncio.Event().wait()

        probe.meanwhile = hangs
        task = asyncio.create_task(bus.execute(REPRICE, id="k1"))
        await asyncio.wait_for(reached.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await self.assert_nothing_happened(bus)
        probe.meanwhile = Probe().meanwhile
        await bus.execute(REPRICE, id="k1")
        await self.assert_happened_once(bus)

    async def test_where_an_aggregate_moved_on_the_handler_runs_again_and_counts_once(
        self, bus: Bus, other: Bus, probe: Probe
    ) -> None:
        async def be_first(session: Session) -> None:
            if probe.runs == 1:
                await _taken(other, "article-a")

        probe.meanwhile = be_first
        await self._runs_again(bus, probe, "article-a")

    async def test_where_a_named_stream_moved_on_the_handler_runs_again_and_counts_once(
        self, bus: Bus, other: Bus, probe: Probe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = bus.runtime.event_log
        heads = log.heads

        async def at_first_too_early(streams: Any) -> Any:
            found = await heads(streams)
            if probe.runs == 1:
                monkeypatch.setattr(log, "heads", heads)
                await _taken(other, "price_list-eur")
            return found

        monkeypatch.setattr(log, "heads", at_first_too_early)
        await self._runs_again(bus, probe, "price_list-eur")

    async def _runs_again(self, bus: Bus, probe: Probe, stream: str) -> None:
        receipt = await bus.execute(REPRICE)
        assert probe.runs == 2
        assert receipt.versions[stream] == 2
        assert await all_of(bus, "totals") == [{"_id": "all", "changes": 1}]
        assert [version for version, _ in await versions_of(bus, stream)] == [1, 2]

    async def test_where_streams_always_move_on_it_gives_up_and_leaves_nothing(
        self, bus: Bus, other: Bus, probe: Probe
    ) -> None:
        async def be_first(session: Session) -> None:
            await _taken(other, "article-a")

        probe.meanwhile = be_first
        with pytest.raises(ConcurrencyError, match="article-a"):
            await bus.execute(REPRICE, id="k1")
        assert probe.runs == 10
        assert await all_of(bus, "totals") == []
        assert await bus.runtime.event_log.read("price_list-eur") == []
        assert await bus.runtime.event_log.find("k1") == []

    async def test_where_a_document_changed_meanwhile_it_runs_again_with_its_message_as_it_was(
        self, bus: Bus, other: Bus, probe: Probe
    ) -> None:
        async def be_late(session: Session) -> None:
            if probe.runs == 1:
                await other.execute(Count(article="b", pieces=[1]))
                await session.documents("stock").update("b", {"$inc": {"left": 1}})

        probe.meanwhile = be_late
        command = Count(article="a", pieces=[2, 3])
        receipt = await bus.execute(command)
        assert receipt.result == Counted(article="a", left=5)
        assert probe.pieces == [[2, 3], [1], [2, 3]]
        assert command.pieces == [2, 3]
        assert {row["_id"]: row["left"] for row in await all_of(bus, "stock")} == {"a": 5, "b": 1}

    async def test_a_result_that_cannot_be_stored_leaves_nothing(
        self, settings: Settings, unique: str
    ) -> None:
        router = Router("results")

        @router.command
        async def count(command: Count, session: Session) -> Any:
            await session.documents("stock").update("a", {"$inc": {"left": 1}})
            return object()

        async with Bus(unique, routers=[router], settings=settings) as bus:
            with pytest.raises(InvalidMessage, match="what it returned"):
                await bus.execute(Count(article="a"), id="k1")
            assert await all_of(bus, "stock") == []
            assert await bus.runtime.event_log.find("k1") == []

    async def test_a_repeat_whose_result_cannot_be_read_is_not_run_again(
        self, bus: Bus, probe: Probe
    ) -> None:
        own = f"{bus.service}-k1"
        kept = Commit("k1", own, bus.service, 1, (), clock.now(), "k1", "k1", result="of before")
        await bus.runtime.event_log.append([kept._replace(message="Count")])
        with pytest.raises(ResultUnreadable) as raised:
            await bus.execute(Count(article="a"), id="k1")
        assert raised.value.receipt.result == "of before"
        assert probe.runs == 0

    async def test_a_middleware_that_repeats_changes_nothing(
        self, make: Callable[..., Bus], probe: Probe
    ) -> None:
        async def twice(envelope: Envelope, following: Next) -> Any:
            first = await following(envelope)
            assert await following(envelope) == first
            return first

        async with make(middleware=[twice]) as bus:
            receipt = await bus.execute(Count(article="a"))
            assert receipt.result == Counted(article="a", left=1)
            assert probe.runs == 2
            assert await all_of(bus, "stock") == [{"_id": "a", "left": 1}]

    async def test_what_a_middleware_answers_itself_is_remembered(
        self, make: Callable[..., Bus], probe: Probe
    ) -> None:
        async def answering(envelope: Envelope, following: Next) -> Any:
            asked.append(envelope.id)
            return Receipt(envelope.id, {}, Counted(article="a", left=len(asked)))

        asked: list[str] = []
        async with make(middleware=[answering]) as bus:
            for _ in range(2):
                receipt = await bus.execute(Count(article="a"), id="k1")
                assert receipt.result == Counted(article="a", left=1)
        assert (asked, probe.runs) == (["k1"], 0)

    async def test_a_command_within_a_command_is_a_transaction_of_its_own(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def within(session: Session) -> None:
            if probe.runs == 1:
                await bus.execute(Count(article="b"))
                raise Broken

        probe.meanwhile = within
        with pytest.raises(Broken):
            await bus.execute(Count(article="a"))
        assert probe.runs == 2
        assert await all_of(bus, "stock") == [{"_id": "b", "left": 1}]

    async def test_it_is_told_what_was_stored(self, bus: Bus) -> None:
        stored: list[signals.EventsStored] = []
        handled: list[signals.CommandHandled] = []
        bus.listen(signals.EventsStored, stored.append)
        bus.listen(signals.CommandHandled, handled.append)
        await bus.execute(REPRICE, id="k1")
        await bus.execute(REPRICE, id="k1")
        assert [(one.message_id, one.commits, one.events) for one in stored] == [("k1", 3, 3)]
        assert [(one.message_id, one.outcome) for one in handled] == [("k1", "done")]

    async def test_a_session_refuses_every_use_after_its_command(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def keep(session: Session) -> None:
            kept.append(session)

        kept: list[Session] = []
        probe.meanwhile = keep
        await bus.execute(Count(article="a"))
        with pytest.raises(ProjectionError, match="its handler has ended"):
            kept[0].documents("stock")

    async def test_collections_of_the_bus_and_of_projections_are_refused(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def intrude(session: Session) -> None:
            session.documents(name)

        probe.meanwhile = intrude
        for name in ("commits", "snapshots", "price_lists", "price_lists__v1"):
            with pytest.raises(ConfigurationError, match=f"'{name}'.*belongs to"):
                await bus.execute(Count(article="a"), id="k1")
        assert await all_of(bus, "stock") == []

    async def test_a_document_that_is_too_large_is_the_commands_own_fault(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def write(session: Session) -> None:
            await session.documents("stock").update("large", {"$set": {"n": "x" * 17_000_000}})

        probe.meanwhile = write
        with pytest.raises(ProjectionError):
            await bus.execute(Count(article="a"), id="k1")
        assert probe.runs == 1
        assert await all_of(bus, "stock") == []
        assert await bus.runtime.event_log.find("k1") == []

    # Streams that events name

    async def test_a_named_stream_counts_its_versions(self, bus: Bus) -> None:
        eur, usd = "price_list-eur", "price_list-usd"
        one = await bus.execute(Announce(streams=[eur, eur]))
        two = await bus.execute(Announce(streams=[usd, eur, usd]))
        assert one.versions == {eur: 2}
        assert two.versions == {usd: 2, eur: 3}
        assert [version for version, _ in await versions_of(bus, eur)] == [1, 2, 3]
        assert [version for version, _ in await versions_of(bus, usd)] == [1, 2]

    async def test_two_at_once_on_one_stream_take_a_version_each(
        self, bus: Bus, other: Bus
    ) -> None:
        commands = [Announce(streams=["price_list-eur"], price=n) for n in range(12)]
        buses = [bus, other] * 6
        await asyncio.gather(
            *(one.execute(command) for one, command in zip(buses, commands, strict=True))
        )
        found = await versions_of(bus, "price_list-eur")
        assert [version for version, _ in found] == list(range(1, 13))
        assert {data["price"] for _, data in found} == set(range(12))

    async def test_a_repeat_publishes_nothing_more_to_a_named_stream(self, bus: Bus) -> None:
        command = Announce(streams=["price_list-eur"])
        first = await bus.execute(command, id="k1")
        await bus.execute(Announce(streams=["price_list-eur"]))
        assert await bus.execute(command, id="k1") == first
        assert len(await versions_of(bus, "price_list-eur")) == 2

    @pytest.mark.parametrize(
        ("stream", "error", "words"),
        [
            ("", InvalidMessage, "not the name of a stream; give a category"),
            ("price_list", InvalidMessage, "a hyphen and an id"),
            ("Price-1", InvalidMessage, "lower-case letters"),
            ("-eur", InvalidMessage, "not the name of a stream"),
            ("price_list-", InvalidMessage, "must have 1 to 200 characters"),
            ("price_list-a\nb", InvalidMessage, "must be printable"),
            ("price_list-" + "x" * 201, InvalidMessage, "1 to 200 characters"),
            ("article-a", ConfigurationError, "that of the aggregate Article.*record"),
        ],
    )
    async def test_a_name_that_no_stream_can_have_is_refused(
        self, bus: Bus, stream: str, error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            await bus.execute(Announce(streams=["price_list-eur", stream]), id="k1")
        assert await bus.runtime.event_log.read("price_list-eur") == []

    async def test_the_services_own_category_and_anothers_are_refused(
        self, make: Callable[..., Bus], unique: str
    ) -> None:
        async with make(foreign={"job": "jobs"}) as bus:
            with pytest.raises(ConfigurationError, match="is the service's own; leave stream= out"):
                await bus.execute(Announce(streams=[f"{unique}-x"]))
            with pytest.raises(ConfigurationError, match="belongs to the service 'jobs'"):
                await bus.execute(Announce(streams=["job-x"]))

    async def test_a_name_that_is_no_text_is_refused(self) -> None:
        for stream in (5, b"price_list-eur", ["price_list-eur"]):
            with pytest.raises(InvalidMessage, match="the name of a stream must be text"):
                Outbox("k").publish(
                    PriceSet(article="a", price=1),
                    stream=stream,  # type: ignore[arg-type]
                )


class DeliveryContract(Pricing):
    """What needs a worker."""

    async def test_a_projection_of_a_named_category_has_it_from_the_first_event(
        self, bus: Bus
    ) -> None:
        async with Worker(bus):
            for price in (5, 7):
                receipt = await bus.execute(Reprice(market="eur", article="a", price=price))
                found = await bus.query(GetPriceList(market="eur"), after=receipt, timeout=20)
                assert found is not None
                assert found.prices == {"a": price}
            assert found == PriceListView(id="eur", prices={"a": 7}, changes=2)
            noted = await _until_noted(bus)
            assert noted == [{"_id": "a", "times": 2}]

    async def test_such_a_projection_is_rebuilt_and_audited(self, bus: Bus) -> None:
        async with Worker(bus):
            for market in ("eur", "usd"):
                for price in range(1, 4):
                    receipt = await bus.execute(Reprice(market=market, article="a", price=price))
            await bus.query(GetPriceList(market="usd"), after=receipt, timeout=20)
            projections = Projections(bus)
            collection = await projections.rebuild("price_lists")

            async def rebuilt() -> bool:
                states = await projections.status("price_lists")
                return ("read", collection) in [(one.state, one.collection) for one in states]

            await until(rebuilt, "readers read the collection made anew", within=40)
            expected = PriceListView(id="eur", prices={"a": 3}, changes=3)
            assert await bus.query(GetPriceList(market="eur")) == expected
            audited = await projections.audit("price_lists")
            assert (audited.compared, audited.differences) == (2, ())

    async def test_an_event_handler_names_a_stream_too_and_once_for_its_event(
        self, bus: Bus
    ) -> None:
        async with Worker(bus):
            for price in range(8):
                await bus.execute(Reprice(market="eur", article=f"a{price}", price=price))

            async def heard() -> bool:
                return len(await versions_of(bus, "hearsay-all")) == 8

            await until(heard, "all were heard of", within=30)
        found = await versions_of(bus, "hearsay-all")
        assert [version for version, _ in found] == list(range(1, 9))
        assert sorted(data["price"] for _, data in found) == list(range(8))

    async def test_a_queued_command_with_a_session_answers_and_happens_once(
        self, bus: Bus, probe: Probe
    ) -> None:
        async with Worker(bus):
            for _ in range(2):
                receipt = await bus.request(Count(article="a"), id="k1")
                assert receipt.result == Counted(article="a", left=1)
            await bus.send(Count(article="b"), id="k2")
            await bus.send(Count(article="b"), id="k2")

            async def counted() -> bool:
                return len(await all_of(bus, "stock")) == 2

            await until(counted, "the command that was sent is carried out")
            receipt = await bus.request(Count(article="b"), id="k2")
        assert receipt.result == Counted(article="b", left=1)
        assert probe.runs == 2

    async def test_one_that_fails_is_a_dead_letter_and_can_be_retried(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def breaks(session: Session) -> None:
            raise Broken

        async with Worker(bus):
            probe.meanwhile = breaks
            with pytest.raises(RemoteError, match="Broken"):
                await bus.request(Count(article="a"), id="k0")
            await bus.send(Count(article="a"), id="k1")
            letters = DeadLetters(bus)

            async def given_up() -> bool:
                return bool(await letters.list())

            await until(given_up, "the command is a dead letter", within=30)
            assert await all_of(bus, "stock") == []
            probe.meanwhile = Probe().meanwhile
            await letters.retry(all=True)

            async def counted() -> bool:
                return bool(await all_of(bus, "stock"))

            await until(counted, "the dead letter was retried", within=30)
        assert await all_of(bus, "stock") == [{"_id": "a", "left": 1}]


async def _taken(bus: Bus, stream: str) -> None:
    """Takes the next version of a stream, as somebody else would."""
    log = bus.runtime.event_log
    first = (await log.heads([stream])).get(stream, 0) + 1
    event = Recorded("Repriced", 1, {"price": 1})
    category, id = stream.partition("-")[0], clock.new_id()
    await log.append([Commit(id, stream, category, first, (event,), clock.now(), "c")])


async def _until_noted(bus: Bus) -> list[dict[str, Any]]:
    async def noted() -> bool:
        return [row["times"] for row in await all_of(bus, "notes")] == [2]

    await until(noted, "the commands that were sent are carried out", within=30)
    return await all_of(bus, "notes")

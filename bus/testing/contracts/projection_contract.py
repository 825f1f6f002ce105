"""What projections promise on any event log and collections."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from bus.errors import NotCaughtUp
from bus.messages import Envelope, Event
from bus.read.documents import Documents
from bus.read.freshness import wait_for
from bus.read.lag import LagMeter
from bus.read.projection import Delete, Projection, Update
from bus.read.projector import TROUBLE_AT, Projector
from bus.read.sweeper import Sweeper
from bus.stores.collections import UNUSABLE
from bus.testing.contracts.documents.views_contract import Account, ViewsContract
from bus.testing.contracts.documents.views_contract import Stores as Stores


class Opened(Event):
    """An account is opened."""

    owner: str


class Deposited(Event):
    """Money comes in; `bank` keeps a total over all accounts."""

    amount: int
    bank: str = "b"


class Closed(Event):
    """An account is closed."""


class AccountView(BaseModel):
    """One account."""

    id: str
    owner: str = ""
    total: int = 0


class BankView(BaseModel):
    """One bank, fed by many accounts."""

    id: str
    total: int = 0
    deposits: int = 0


class LedgerView(BaseModel):
    """One account, written by an async handler that reads first."""

    id: str
    entries: list[int] = []


def accounts() -> Projection[AccountView]:
    """Feeds each document from its own stream: versions are kept in the documents."""
    projection = Projection("accounts", of=[Account], view=AccountView)

    @projection.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    @projection.on(Deposited)
    def deposited(event: Deposited) -> Update:
        if event.amount < 0:
            raise ValueError("a deposit cannot be negative")
        return {"$inc": {"total": event.amount}}

    @projection.on(Closed)
    def closed(event: Closed) -> Delete:
        return Delete()

    return projection


def banks() -> Projection[BankView]:
    """Feeds one document from many streams: versions are kept in checkpoints."""
    projection = Projection("banks", of=[Account], view=BankView)

    @projection.on(Deposited, key=lambda event: event.bank)
    def deposited(event: Deposited) -> Update:
        if event.amount < 0:
            raise ValueError("a deposit cannot be negative")
        return {"$inc": {"total": event.amount, "deposits": 1}}

    return projection


def ledgers() -> Projection[LedgerView]:
    """Reads and writes in an async handler, inside the batch's transaction."""
    projection = Projection("ledgers", of=[Account], view=LedgerView)

    @projection.on(Deposited)
    async def deposited(
        event: Deposited, envelope: Envelope, documents: Documents[LedgerView]
    ) -> None:
        key = envelope.stream.partition("-")[2]
        ledger = await documents.get(key)
        entries = [*(ledger.entries if ledger else []), event.amount]
        await documents.update(key, {"$set": {"entries": entries}})
        if event.amount < 0:
            raise ValueError("a deposit cannot be negative")

    return projection


class ProjectionContract(ViewsContract):
    """Tests projections on two stores. Supply the fixture `stores`, a `Stores`."""

    def test_where_versions_stand_follows_from_the_declaration(self) -> None:
        assert accounts().target().versions_in_documents
        assert not banks().target().versions_in_documents
        assert not ledgers().target().versions_in_documents

    @pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 1, 0, 2, 2], [2], [0, 2]])
    async def test_any_order_with_duplicates_and_gaps_ends_in_the_fold_of_the_log(
        self, stores: Stores, order: Sequence[int]
    ) -> None:
        for projection in (accounts(), banks(), ledgers()):
            stream = f"account-{projection.name}"
            events = await self.append(
                stores, stream, 1, Opened(owner="Ada"), Deposited(amount=5, bank=projection.name),
                Deposited(amount=7, bank=projection.name),
            )  # fmt: skip
            projector = await self.projector(stores, projection)
            for index in order:
                await projector.apply([events[index]])
            await projector.apply([events[index] for index in order])
            found = await self.documents(stores, projection).get(projection.name)
            assert found is not None
            assert getattr(found, "total", 12) == 12
            assert getattr(found, "entries", [5, 7]) == [5, 7]
            await projector.close()

    async def test_a_projection_heals_a_gap_from_the_log(self, stores: Stores) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        await self.append(stores, "account-a", 1, Opened(owner="Ada"), Deposited(amount=1))
        (late,) = await self.append(stores, "account-a", 3, Deposited(amount=2))
        applied = await projector.apply([late])
        assert applied == (3, 3, 0, 1)
        assert await self.documents(stores, projection).get("a") == AccountView(
            id="a", owner="Ada", total=3
        )

    async def test_an_event_that_nobody_reads_only_counts_as_a_version(
        self, stores: Stores
    ) -> None:
        projection = banks()
        projector = await self.projector(stores, projection)
        await projector.apply(await self.append(stores, "account-a", 1, Opened(owner="Ada")))
        reached = await stores.collections.versions(projection.target(), ["account-a"])
        assert reached == {"account-a": 1}
        assert await self.documents(stores, projection).find({}) == []

    async def test_a_deleted_document_stays_deleted_when_duplicates_come(
        self, stores: Stores
    ) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        events = await self.append(stores, "account-a", 1, Opened(owner="Ada"), Closed())
        await projector.apply(events)
        await projector.apply(events[:1])
        assert await self.documents(stores, projection).get("a") is None

    @pytest.mark.parametrize("make", [accounts, banks, ledgers])
    async def test_a_failing_event_parks_its_stream_and_the_others_go_on(
        self, stores: Stores, make: Any
    ) -> None:
        projection = make()
        projector = await self.projector(stores, projection)
        bad = await self.append(
            stores, "account-bad", 1, Opened(owner="B"), Deposited(amount=1), Deposited(amount=-1)
        )
        good = await self.append(
            stores, "account-good", 1, Opened(owner="G"), Deposited(amount=2, bank="g")
        )
        await projector.apply([*bad, *good])
        target = projection.target()
        reached = await stores.collections.versions(target, ["account-bad", "account-good"])
        assert reached == {"account-bad": 2, "account-good": 2}
        (parked,) = await stores.control.parked(target)
        assert (parked.stream, parked.version, parked.tries) == ("account-bad", 3, 1)
        assert "a deposit cannot be negative" in parked.reason
        assert (parked.message, parked.error) == ("Deposited", "ValueError")
        assert "deposited" in parked.frames[-1]

    async def test_a_parked_stream_catches_up_from_the_log_once_its_handler_is_mended(
        self, stores: Stores
    ) -> None:
        broken = accounts()
        projector = await self.projector(stores, broken)
        events = await self.append(stores, "account-a", 1, Opened(owner="A"), Deposited(amount=-1))
        await projector.apply(events)
        later = await self.append(stores, "account-a", 3, Deposited(amount=5))
        await projector.apply(later)
        mended = Projection("accounts", of=[Account], view=AccountView)

        @mended.on(Opened)
        def opened(event: Opened) -> Update:
            return {"$set": {"owner": event.owner}}

        @mended.on(Deposited)
        def deposited(event: Deposited) -> Update:
            return {"$inc": {"total": event.amount}}

        (parked,) = await stores.control.parked(mended.target())
        due = parked._replace(next_try=stores.control.now())
        await stores.control.park(mended.target(), due)
        heir = await self.projector(stores, mended)
        await heir.retry_parked()
        assert await stores.control.parked(mended.target()) == []
        assert await self.documents(stores, mended).get("a") == AccountView(
            id="a", owner="A", total=4
        )
        # The projector that parked it notices at its next event, not only at the next sweep.
        await projector.apply(await self.append(stores, "account-a", 4, Deposited(amount=6)))
        assert await self.documents(stores, mended).get("a") == AccountView(
            id="a", owner="A", total=10
        )

    async def test_an_update_that_the_store_refuses_parks_only_its_stream(
        self, stores: Stores
    ) -> None:
        projection = Projection("accounts", of=[Account], view=AccountView)

        @projection.on(Deposited)
        def deposited(event: Deposited) -> Update:
            return {"$inc": {"total": event.amount if event.amount > 0 else "no number"}}

        projector = await self.projector(stores, projection)
        bad = await self.append(stores, "account-bad", 1, Deposited(amount=0))
        good = await self.append(stores, "account-good", 1, Deposited(amount=2))
        await projector.apply([*bad, *good])
        (parked,) = await stores.control.parked(projection.target())
        assert parked.stream == "account-bad"
        assert await self.documents(stores, projection).get("good") is not None

    @pytest.mark.parametrize("make", [accounts, banks])
    async def test_two_that_both_think_they_are_in_charge_apply_each_event_once(
        self, stores: Stores, make: Any
    ) -> None:
        projection = make()
        first = await self.projector(stores, projection)
        second = await self.projector(stores, projection)
        events: list[Envelope] = []
        for number in range(20):
            events += await self.append(
                stores, f"account-{number}", 1, *[Deposited(amount=1, bank="all")] * 5
            )
        batches = [events[start : start + 10] for start in range(0, len(events), 10)]

        async def work(projector: Projector) -> None:
            for batch in batches:
                await projector.apply(batch)

        await asyncio.gather(work(first), work(second))
        found = await self.documents(stores, projection).find({})
        assert sum(document.total for document in found) == 100

    async def test_a_sweep_applies_what_never_arrived(self, stores: Stores) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        opened = Opened(owner="Ada")
        await self.append(stores, "account-a", 1, opened, Deposited(amount=1), ahead=-60)
        await self.append(stores, "account-b", 1, Opened(owner="Bob"), ahead=-60)
        sweeper = Sweeper(projector, stores.event_log, stores.collections, stores.control)
        assert await sweeper.sweep() == 3
        assert await sweeper.sweep() == 0
        assert await self.documents(stores, projection).count({}) == 2

    async def test_a_sweep_applies_what_was_stored_by_a_clock_a_day_ahead(
        self, stores: Stores
    ) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        sweeper = Sweeper(projector, stores.event_log, stores.collections, stores.control)
        await sweeper.sweep()
        await self.append(stores, "account-a", 1, Opened(owner="Ada"), ahead=24 * 3600)
        assert await sweeper.sweep() == 1

    @pytest.mark.parametrize("version", ["2", None, 2.0, float("nan"), -3, True, [2], {}])
    async def test_a_document_without_a_usable_version_parks_its_stream_alone(
        self, stores: Stores, version: Any
    ) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        for key in ("a", "b"):
            await projector.apply(await self.append(stores, f"account-{key}", 1, Opened(owner="A")))
        collections, target = stores.collections, projection.target()
        found = (await collections.whole(target, ["a"]))["a"]
        assert await collections.replace(target, "a", found, {**found, "_version": version})
        assert await collections.versions(target, ["account-a", "account-c"]) == {
            "account-a": UNUSABLE
        }

        arrived = [
            *await self.append(stores, "account-a", 2, Deposited(amount=1)),
            *await self.append(stores, "account-b", 2, Deposited(amount=1)),
        ]
        for streams in (1, 0):
            assert (await projector.apply(arrived)).streams == streams
            assert (await projector.apply_streams(["account-a", "account-b"])).streams == 0
        (parked,) = await stores.control.parked(target)
        assert (parked.stream, parked.error) == ("account-a", "VersionUnusable")
        assert "refold APP accounts --stream account-a" in parked.reason
        shown = await self.documents(stores, projection).get("b")
        assert shown == AccountView(id="b", owner="A", total=1)
        meter = LagMeter(["account"], target, stores.event_log, collections, stores.control)
        lag = await meter.measure()
        assert (lag.events, lag.parked) == (0, 1)
        now = (await collections.whole(target, ["a"]))["a"]
        assert await collections.replace(target, "a", now, found)
        assert await projector.retry_parked(all=True) == ["account-a"]

    async def test_many_unusable_versions_are_no_trouble_of_the_projections(
        self, stores: Stores
    ) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        streams = [f"account-{number}" for number in range(2 * TROUBLE_AT)]
        spoilt = [{"_id": stream.partition("-")[2], "_version": "x"} for stream in streams]
        await stores.collections.insert(projection.target(), spoilt)
        for stream in streams:
            await projector.apply(await self.append(stores, stream, 1, Opened(owner="A")))
        assert projector.trouble is None
        assert len(await stores.control.parked(projection.target())) == len(streams)

    async def test_freshness_waits_until_the_versions_are_reached(self, stores: Stores) -> None:
        projection = accounts()
        projector = await self.projector(stores, projection)
        events = await self.append(stores, "account-a", 1, Opened(owner="Ada"))
        waiting = asyncio.create_task(
            wait_for(stores.collections, [projection], {"account-a": 1, "other-a": 9}, 5)
        )
        await asyncio.sleep(0)
        assert not waiting.done()
        await projector.apply(events)
        await waiting

    async def test_freshness_ends_in_time_with_what_is_behind(self, stores: Stores) -> None:
        projection = accounts()
        await stores.collections.prepare(projection.target())
        with pytest.raises(NotCaughtUp, match="version 3 of account-a is wanted"):
            await wait_for(stores.collections, [projection], {"account-a": 3}, 0.05)

"""A place for documents that can do no more than it must."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from bus import (
    Backend,
    Bus,
    ConfigurationError,
    Projection,
    Projections,
    Router,
    Session,
    Settings,
    Update,
    Worker,
    default_backend,
)
from bus.assembly.backend import MakeBackend
from bus.data.payload import Document
from bus.observe.loops import Loops
from bus.observe.signals import EventHandled
from bus.stores.collections import Collections, StoredDocuments, Target, Writer
from bus.stores.memory import MemoryCollections
from bus.testing import built, written
from bus.testing.contracts.collections_contract import CollectionsContract
from bus.testing.contracts.documents.documents_contract import DocumentsContract
from tests.service.wallet import GetWallet, Ledger, Paid, Pay, Wallet, WalletView, build, payments
from tests.waiting import until


class Plain(Collections):
    """It loads nothing in bulk, compares, watches and shows nothing."""

    def __init__(self) -> None:
        self._within = MemoryCollections()

    async def open(self, *, makes: bool = True) -> None:
        await self._within.open(makes=makes)

    async def close(self) -> None:
        await self._within.close()

    async def prepare(self, target: Target) -> Sequence[str]:
        return await self._within.prepare(target)

    async def drop(self, target: Target) -> None:
        await self._within.drop(target)

    def documents(self, target: Target) -> StoredDocuments:
        return self._within.documents(target)

    def writer(self, target: Target, queue: str) -> Writer:
        return self._within.writer(target, queue)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        return await self._within.versions(target, streams)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        return await self._within.reached(target, after, limit)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        return await self._within.identities(names)

    async def seal(self) -> Document:
        return await self._within.seal()

    async def set_seal(self, value: Document) -> None:
        await self._within.set_seal(value)


class TestPlain(CollectionsContract, DocumentsContract):
    @pytest.fixture
    async def collections(self) -> Collections:
        return Plain()


def with_plain(settings: Settings) -> MakeBackend:
    """What a bus stands on, with its documents in such a place."""
    usual, plain = default_backend(settings), Plain()

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        return replace(usual(service, projected, loops), collections=plain)

    return backend


@pytest.fixture
def bus() -> Bus:
    settings = Settings.in_memory()
    return build(settings, backend=with_plain(settings))


async def until_read(bus: Bus, collection: str) -> None:
    """Waits until readers of the only projection read that collection."""
    (projection,) = bus.runtime.projections

    async def is_read() -> bool:
        return (await bus.runtime.catalogue.target(projection)).collection == collection

    await until(is_read, "the new collection is read")


async def test_what_cannot_be_loaded_in_bulk_is_built_in_transactions(bus: Bus) -> None:
    async with bus, Worker(bus):
        await built(bus)
        for number in range(3):
            receipt = await bus.execute(Pay(wallet_id=f"w{number}", amount=number))
        await bus.query(GetWallet(wallet_id="w2"), after=receipt)
        await until_read(bus, await Projections(bus).rebuild("wallets"))
        for number in range(3):
            found = await bus.query(GetWallet(wallet_id=f"w{number}"))
            assert found == WalletView(id=f"w{number}", total=number)


async def test_what_is_built_in_transactions_is_folded_once() -> None:
    projection = Projection("ledger", of=[Wallet], view=Ledger)
    folded: list[int] = []

    @projection.on(Paid)
    def on_paid(event: Paid) -> Update:
        folded.append(event.amount)
        return {"$push": {"entries": event.amount}}

    settings = Settings.in_memory()
    bus = Bus(
        "wallets",
        routers=[payments()],
        projections=[projection],
        settings=settings,
        backend=with_plain(settings),
    )
    async with bus, Worker(bus):
        await built(bus)
        for amount in range(3):
            await bus.execute(Pay(wallet_id=f"w{amount}", amount=amount))
        await until(lambda: sorted(folded) == [0, 1, 2], "all have arrived")
        folded.clear()
        await until_read(bus, await Projections(bus).rebuild("ledger"))
        assert sorted(folded) == [0, 1, 2]


async def test_what_cannot_be_compared_is_not_audited_and_its_remedy_is_told(bus: Bus) -> None:
    refusal = (
        "^projection 'wallets': an audit needs collections that are Comparable, and Plain is "
        "not: it has no page, whole, sample, replace; have it built anew, "
        "`bus projections rebuild APP wallets`"
    )
    async with bus, Worker(bus):
        await built(bus)
        for repair in (False, True):
            with pytest.raises(ConfigurationError, match=refusal):
                await Projections(bus).audit("wallets", repair=repair)
        with pytest.raises(ConfigurationError, match=refusal):
            await Projections(bus).refold("wallets", documents=["a"])


async def test_what_cannot_be_watched_says_so_to_who_would_watch_it(bus: Bus) -> None:
    async with bus, Worker(bus):
        await built(bus)
        with pytest.raises(
            ConfigurationError,
            match=r"^projection 'wallets': watch\(\) needs collections that are Watchable, and "
            r"Plain is not: it has no changes; ask with query\(\) now and then, or write ",
        ):
            bus.watch(GetWallet(wallet_id="a"))


async def test_what_cannot_be_shown_is_read_by_the_bus_all_the_same(bus: Bus) -> None:
    async with bus, Worker(bus):
        (projection,) = bus.runtime.projections
        await bus.runtime.catalogue.show(projection)
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        found = await bus.query(GetWallet(wallet_id="a"), after=receipt)
        assert found == WalletView(id="a", total=1)


async def test_what_handlers_wrote_is_read_where_their_sessions_write_it() -> None:
    letters = Router("letters")

    @letters.event
    async def on_paid(event: Paid, session: Session) -> None:
        await session.documents("letters").update("a", {"$set": {"paid": event.amount}})

    settings = Settings.in_memory()
    bus = Bus(
        "wallets", routers=[payments(), letters], settings=settings, backend=with_plain(settings)
    )
    handled: list[EventHandled] = []
    bus.listen(EventHandled, handled.append)
    async with bus, Worker(bus):
        assert await written(bus, "letters") == {}
        await bus.execute(Pay(wallet_id="a", amount=3))
        await until(lambda: handled, "the letter is written")
        for _ in range(2):
            assert await written(bus, "letters") == {"a": {"paid": 3}}

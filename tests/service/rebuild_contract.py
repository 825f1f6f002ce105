"""New versions and rebuilds of projections, on any pair of transport and stores."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
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
from bus.assembly.backend import MakeBackend
from bus.delivery import projection_runner
from bus.dispatch.middleware import Middleware
from bus.operate.projections import CollectionStatus, Projections
from bus.rebuild import pause
from bus.rebuild.generations import Generation
from bus.rebuild.switch import Switch
from tests.waiting import patience, until


class Pay(Command):
    purse_id: str
    amount: int


class Paid(Event):
    amount: int
    bank: str = "b"


class Purse(Aggregate, events=[Paid]):
    def apply(self, event: Event) -> None:
        """It decides nothing by what happened."""


class PurseView(BaseModel):
    id: str
    total: int = 0


class BankView(BaseModel):
    id: str
    total: int = 0


class GetPurse(Query[PurseView | None]):
    purse_id: str


class CountPurses(Query[int]):
    pass


class GetBank(Query[BankView | None]):
    pass


def service(
    settings: Settings,
    name: str,
    *,
    version: int = 1,
    partitions: int = 1,
    bad: Sequence[str] = "",
    without_banks: bool = False,
    more: Sequence[Router] = (),
    middleware: Sequence[Middleware] = (),
    backend: MakeBackend | None = None,
) -> Bus:
    """Purses, and the bank of all of them. Version 2 counts cents, where version 1 counts euros;
    with `bad`, it can make nothing of a payment of 13. `more` are a test's own routers."""
    router, query_of_banks = Router("payments"), Router("banking")

    @router.command
    async def pay(command: Pay, purses: Repository[Purse]) -> None:
        purse = await purses.find(command.purse_id)
        if purse is None:
            purse = Purse(command.purse_id)
            purses.add(purse)
        purse.record(Paid(amount=command.amount))

    factor = 1 if version == 1 else 100

    purses = Projection(
        "purses", of=[Purse], view=PurseView, version=version, partitions=partitions
    )
    banks = Projection("banks", of=[Purse], view=BankView, version=version)

    @purses.on(Paid)
    def paid(event: Paid) -> Update:
        if bad and event.amount == 13:
            raise ValueError(bad)
        return {"$inc": {"total": factor * event.amount}}

    @banks.on(Paid, key=lambda event: event.bank)
    def banked(event: Paid) -> Update:
        return {"$inc": {"total": factor * event.amount}}

    @router.query
    async def get_purse(query: GetPurse, documents: Documents[PurseView]) -> PurseView | None:
        return await documents.get(query.purse_id)

    @router.query
    async def count_purses(query: CountPurses, documents: Documents[PurseView]) -> int:
        return await documents.count({})

    @query_of_banks.query
    async def get_bank(query: GetBank, documents: Documents[BankView]) -> BankView | None:
        return await documents.get("b")

    if without_banks:
        return Bus(name, routers=[router], projections=[purses], settings=settings)
    return Bus(
        name,
        routers=[router, query_of_banks, *more],
        projections=[purses, banks],
        settings=settings,
        middleware=middleware,
        backend=backend,
    )


async def paid_into(bus: Bus, purses: int, amount: int = 1) -> Receipt:
    """One payment into each of so many purses; the receipt of the last."""
    receipts = await asyncio.gather(
        *[bus.execute(Pay(purse_id=f"p{n}", amount=amount)) for n in range(purses)]
    )
    return receipts[-1]


class Brisk:
    """Workers look for what has changed more often, so that readers are moved sooner."""

    @pytest.fixture(autouse=True)
    def brisk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Everything by the same factor, but what others may take to hold is longer on a machine
        that is busy."""
        monkeypatch.setattr(projection_runner, "FOLLOW_EVERY", projection_runner.FOLLOW_EVERY / 4)
        monkeypatch.setattr(projection_runner, "TEND_EVERY", projection_runner.TEND_EVERY / 4)
        monkeypatch.setattr(pause, "HELD_AFTER", pause.HELD_AFTER / 4 * patience())

    async def rolled_back(self, bus: Bus, name: str) -> bool:
        """Has readers go back to the first version; False while others write what it changes."""
        try:
            return await Projections(bus).rollback(name) == f"{name}__v1"
        except ProjectionError as error:
            if "try again in" not in str(error):
                raise
            return False


class RebuildContract(Brisk):
    """Subclasses give `make`: a bus of the service above, over the same broker and stores each
    time."""

    async def read(self, bus: Bus, projection: str = "purses") -> CollectionStatus:
        """What readers read, of a projection."""
        (found,) = [o for o in await Projections(bus).status(projection) if o.state == "read"]
        return found

    async def until_read(self, bus: Bus, collection: str) -> None:
        name = collection.partition("__")[0]

        async def is_read() -> bool:
            states = {o.collection: o.state for o in await Projections(bus).status(name)}
            return states.get(collection) == "read"

        await until(is_read, f"{collection} is read", within=60)

    async def test_a_new_version_is_built_while_the_old_one_is_read(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as old, Worker(old):
            await paid_into(old, 50)
            receipt = await paid_into(old, 50, amount=2)
            assert await old.query(GetPurse(purse_id="p49"), after=receipt, timeout=30)
            async with make(version=2) as new:
                seen = PurseView(id="p7", total=3)
                assert await new.query(GetPurse(purse_id="p7")) == seen
                async with Worker(new):
                    await self.until_read(new, "purses__v2")
                    await self.until_read(new, "banks__v2")
                    receipt = await paid_into(new, 1)
                    for each in (old, new):
                        got = await each.query(GetPurse(purse_id="p0"), after=receipt, timeout=30)
                        assert got == PurseView(id="p0", total=400)
                        assert await each.query(CountPurses()) == 50
                        bank = await each.query(GetBank(), after=receipt, timeout=30)
                        assert bank == BankView(id="b", total=15_100)

    async def test_readers_never_see_less_than_before(self, make: Callable[..., Bus]) -> None:
        """Payments go on while projections of both kinds are rebuilt; totals and counts only
        grow."""
        async with make() as bus, Worker(bus):
            receipt = await paid_into(bus, 20)
            await bus.query(CountPurses(), after=receipt, timeout=30)
            await bus.query(GetBank(), after=receipt, timeout=30)
            done = False
            sunk: list[str] = []

            async def pay() -> None:
                number = 0
                while not done:
                    number += 1
                    await bus.execute(Pay(purse_id=f"q{number % 200}", amount=1))
                    await asyncio.sleep(0.005)

            async def watch() -> None:
                count = total = 0
                while not done:
                    now = await bus.query(CountPurses())
                    bank = await bus.query(GetBank())
                    assert bank
                    if now < count or bank.total < total:
                        sunk.append(f"{now} of {count} purses, {bank.total} of {total}")
                    count, total = now, bank.total
                    await asyncio.sleep(0.003)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pay())
                tasks.create_task(watch())
                for projection in ("purses", "banks"):
                    collection = await Projections(bus).rebuild(projection)
                    await self.until_read(bus, collection)
                done = True
            assert sunk == []

    async def test_a_projection_that_is_new_to_a_history_is_not_read_before_it_is_built(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make(without_banks=True) as before, Worker(before):
            await paid_into(before, 30)
        async with make() as bus:
            with pytest.raises(NotBuilt, match="'banks' is being built"):
                await bus.query(GetBank())
            async with Worker(bus):
                await self.until_read(bus, "banks__v1")
                assert await bus.query(GetBank()) == BankView(id="b", total=30)

    async def test_going_back_needs_no_build(self, make: Callable[..., Bus]) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 5), timeout=30)
            projections = Projections(bus)
            with pytest.raises(ProjectionError, match="nothing to roll back to"):
                await projections.rollback("purses")
            collection = await projections.rebuild("purses")
            with pytest.raises(ProjectionError, match="being built already"):
                await projections.rebuild("purses")
            await self.until_read(bus, collection)
            receipt = await paid_into(bus, 6)
            assert await bus.query(CountPurses(), after=receipt, timeout=30) == 6
            await until(partial(self.rolled_back, bus, "purses"), "readers went back")
            assert await bus.query(CountPurses(), after=receipt, timeout=30) == 6
            receipt = await paid_into(bus, 7)
            assert await bus.query(CountPurses(), after=receipt, timeout=30) == 7

    async def test_a_version_that_cannot_make_something_of_an_event_is_not_read(
        self, make: Callable[..., Bus], capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with make() as old, Worker(old):
            receipt = await paid_into(old, 3)
            receipt = await old.execute(Pay(purse_id="p1", amount=13))
            await old.query(CountPurses(), after=receipt, timeout=30)
        told = ""

        async def stays() -> bool:
            nonlocal told
            told += capsys.readouterr().err
            return "readers_stayed" in told

        async with make(version=2, bad="unlucky") as new, Worker(new):
            await self.until_read(new, "banks__v2")
            await until(stays, "readers are not moved to it", within=60)
            (built,) = [o for o in await Projections(new).status("purses") if o.version == 2]
            assert (built.state, built.parked) == ("building", 1)
            assert (await self.read(new)).collection == "purses__v1"
        async with make(version=2) as mended, Worker(mended):
            await self.until_read(mended, "purses__v2")
            found = await mended.query(GetPurse(purse_id="p1"))
            assert found == PurseView(id="p1", total=1400)

    async def test_readers_move_as_soon_as_what_kept_them_is_applied(
        self, make: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with make() as old, Worker(old):
            receipt = await old.execute(Pay(purse_id="p1", amount=13))
            await old.query(CountPurses(), after=receipt, timeout=30)
        monkeypatch.setattr(projection_runner, "MOVE_EVERY", 3600)
        stayed = False

        async def to(self: Switch, generation: Generation) -> str | None:
            nonlocal stayed
            reason = await as_it_is(self, generation)
            stayed |= "parked" in (reason or "")
            return reason

        as_it_is = Switch.to
        monkeypatch.setattr(Switch, "to", to)
        bad = ["not just now"]
        async with make(version=2, bad=bad) as new, Worker(new):

            async def stays() -> bool:
                return stayed

            await until(stays, "readers are not moved to it", within=60)
            bad.clear()
            await self.until_read(new, "purses__v2")
            assert await new.query(GetPurse(purse_id="p1")) == PurseView(id="p1", total=1300)

    async def test_what_is_dropped_is_gone_with_its_queue(self, make: Callable[..., Bus]) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 5), timeout=30)
            projections = Projections(bus)
            with pytest.raises(ProjectionError, match="readers read 'purses__v1'"):
                await projections.drop("purses", "purses__v1")
            await self.until_read(bus, await projections.rebuild("purses"))
            await projections.drop("purses", "purses__v1")
            (left,) = await projections.status("purses")
            assert (left.collection, left.state) == ("purses__v1r2", "read")
            assert await bus.query(CountPurses()) == 5

    async def test_a_queue_of_what_was_dropped_that_comes_back_is_deleted_again(
        self, make: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that has not heard of the drop declares it, and nobody would consume it."""
        monkeypatch.setattr(projection_runner, "TIDY_EVERY", 0.3)
        async with make() as bus:
            stale, transport = bus.runtime.topology, bus.runtime.transport
            queues = [one.name for one in stale.queues if ".purses" in one.name]
            async with Worker(bus):
                await bus.query(CountPurses(), after=await paid_into(bus, 5), timeout=30)
                projections = Projections(bus)
                await self.until_read(bus, await projections.rebuild("purses"))
                await projections.drop("purses", "purses__v1")
            await transport.restore(stale)
            receipt = await paid_into(bus, 5)

            async def waiting() -> int:
                return sum([await transport.depth(name) for name in queues])

            async def waits() -> bool:
                return await waiting() == 5

            async def gone() -> bool:
                return await waiting() == 0

            await until(waits, "what nobody consumes waits in it")
            async with Worker(bus):
                await until(gone, "it is deleted", within=30)
                await bus.query(CountPurses(), after=receipt, timeout=30)

    async def test_another_number_of_partitions_loses_and_repeats_nothing(
        self, make: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What waited in the old queues comes from the log; then these are deleted."""
        monkeypatch.setattr(projection_runner, "TIDY_EVERY", 0.3)
        async with make(partitions=2) as before:
            async with Worker(before):
                await before.query(CountPurses(), after=await paid_into(before, 20), timeout=30)
            await paid_into(before, 30)
            (purses,) = [one for one in before.runtime.subscriptions if one.name == "purses"]
            old = [queue.name for queue in purses.queues]
        async with make(partitions=3) as after:

            async def waiting() -> int:
                return sum([await after.runtime.transport.depth(name) for name in old])

            async def gone() -> bool:
                return await waiting() == 0

            assert await waiting() >= 30  # of the first payments, the last one alone was awaited
            async with Worker(after):
                receipt = await paid_into(after, 30)
                await after.query(CountPurses(), after=receipt, timeout=30)
                await until(gone, "the old queues are deleted", within=30)
                audited = await Projections(after).audit("purses")
                assert (audited.compared, audited.differences) == (30, ())
                found = await after.query(GetPurse(purse_id="p0"), after=receipt, timeout=30)
                assert found == PurseView(id="p0", total=3)

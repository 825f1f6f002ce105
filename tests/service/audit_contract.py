"""Audits of projections, on any pair of transport and stores."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from functools import partial
from typing import cast

import pytest

from bus import Bus, ProjectionError, Projections, Worker
from bus.common import clock
from bus.data.payload import Document
from bus.read.lag import Lag
from bus.rebuild.audit import Audit
from bus.rebuild.drift import Difference
from bus.stores.collections import Comparable, LoadsInBulk
from tests.service.rebuild_contract import (
    BankView,
    Brisk,
    CountPurses,
    GetBank,
    GetPurse,
    Pay,
    PurseView,
    paid_into,
)
from tests.waiting import until


async def damage(bus: Bus, projection: str, key: str, wanted: Document | None) -> Document | None:
    """Puts something else in the place of a document, past the bus; what stood there."""
    collections = cast(Comparable, bus.runtime.collections)
    (one,) = [o.of for o in bus.runtime.declared if o.name == projection]
    target = await bus.runtime.catalogue.target(one)  # type: ignore[arg-type]

    async def damaged() -> list[Document | None]:
        found = (await collections.whole(target, [key])).get(key)
        changed = {**(found or {"_id": key}), **wanted} if wanted is not None else None
        return [found] if await collections.replace(target, key, found, changed) else []

    stood: list[Document | None] = await until(damaged, "nobody else writes it at the same time")
    return stood[0]


async def apply_past_the_pause(bus: Bus, projection: str, *streams: str) -> None:
    """As a worker does that has not learned of it."""
    (one,) = [one for one in bus.runtime.projections if one.name == projection]
    target = await bus.runtime.catalogue.target(one)
    projector = bus.runtime.projector(one, target, "late")
    try:
        await projector.apply_streams(streams)
    finally:
        await projector.close()


def before_comparing(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[None]]
) -> None:
    """Has something happen before an audit first compares what it has brought to one version."""
    compare, due = Audit._compare, [happens]

    async def compare_after(audit: Audit, keys: Collection[str]) -> list[Difference]:
        while due:
            await due.pop()()
        return await compare(audit, keys)

    monkeypatch.setattr(Audit, "_compare", compare_after)


def id_of(hours: int) -> str:
    """An id of version 7 as it was made so many hours ago."""
    made = clock.now() - timedelta(hours=hours)
    return f"{int(made.timestamp() * 1000):012x}70008{hours:015d}"


async def swept(bus: Bus) -> bool:
    """Whether the sweep at a worker's start is over, which heals what is missing."""
    (status,) = await Projections(bus).status("purses")
    return status.swept is not None


class AuditContract(Brisk):
    """Subclasses give `make`, as of `RebuildContract`."""

    @pytest.fixture
    def hopeful(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An audit takes what stands still for longer to be on its way, on a busy machine."""
        monkeypatch.setattr("bus.rebuild.audit.STUCK_AFTER", 60.0)

    @pytest.mark.usefixtures("hopeful")
    async def test_nothing_differs_while_commands_go_on(self, make: Callable[..., Bus]) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(GetBank(), after=await paid_into(bus, 60), timeout=30)
            done = False

            async def pay() -> None:
                number = 0
                while not done:
                    number += 1
                    await bus.execute(Pay(purse_id=f"p{number % 90}", amount=1))
                    await asyncio.sleep(0.005)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(2):
                    tasks.create_task(pay())
                for name, sample in (("purses", 0), ("purses", 20), ("banks", 0)):
                    audited = await Projections(bus).audit(name, sample=sample)
                    assert audited.differences == (), name
                    assert audited.is_right
                done = True
            assert audited.compared == 1

    async def test_what_was_damaged_is_found_and_put_right(self, make: Callable[..., Bus]) -> None:
        async with make() as bus, Worker(bus):
            receipt = await paid_into(bus, 30, amount=5)
            await bus.query(CountPurses(), after=receipt, timeout=30)
            await until(partial(swept, bus), "purses are swept")
            await damage(bus, "purses", "p3", {"total": 6})
            await damage(bus, "purses", "p4", None)
            await damage(bus, "purses", "stray", {"total": 1})
            projections = Projections(bus)
            found = await projections.audit("purses")
            assert {one.key: one.kind for one in found.differences} == {
                "p3": "differs",
                "p4": "missing",
                "stray": "stray",
            }
            by_key = {one.key: one for one in found.differences}
            assert by_key["p3"].fields == {"total": (6, 5)}
            assert not found.is_right
            assert await bus.query(GetPurse(purse_id="p3")) == PurseView(id="p3", total=6)

            mended = await projections.audit("purses", repair=True)
            assert mended.is_right
            assert {"p3", "stray"} <= {one.key for one in mended.differences}  # sweeps heal p4
            assert await bus.query(GetPurse(purse_id="p3")) == PurseView(id="p3", total=5)
            assert await bus.query(CountPurses()) == 30
            assert (await projections.audit("purses")).differences == ()
            receipt = await paid_into(bus, 5, amount=1)
            got = await bus.query(GetPurse(purse_id="p4"), after=receipt, timeout=30)
            assert got == PurseView(id="p4", total=6)

    async def test_a_document_of_several_streams_is_put_right(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus, Worker(bus):
            receipt = await paid_into(bus, 30)
            await bus.query(GetBank(), after=receipt, timeout=30)
            await damage(bus, "banks", "b", {"total": 29})
            (found,) = (await Projections(bus).audit("banks", sample=5)).differences
            assert found.fields == {"total": (29, 30)}
            (mended,) = (await Projections(bus).audit("banks", repair=True)).differences
            assert mended.repaired
            receipt = await paid_into(bus, 1)
            assert await bus.query(GetBank(), after=receipt, timeout=30) == BankView(
                id="b", total=31
            )

    @pytest.mark.usefixtures("hopeful")
    async def test_what_waits_in_the_queue_is_no_difference(self, make: Callable[..., Bus]) -> None:
        async with make() as bus:
            async with Worker(bus):
                await bus.query(GetBank(), after=await paid_into(bus, 10), timeout=30)
            await paid_into(bus, 20)
            auditing = asyncio.create_task(Projections(bus).audit("purses"))
            await asyncio.sleep(1)  # so that it meets what is missing
            async with Worker(bus):
                assert (await auditing).differences == ()

    async def test_what_never_arrives_is_told_as_missing(self, make: Callable[..., Bus]) -> None:
        async with make() as bus:
            await paid_into(bus, 3)
            found = (await Projections(bus).audit("purses")).differences
            assert sorted(one.key for one in found) == ["p0", "p1", "p2"]
            assert {one.kind for one in found} == {"missing"}

    async def test_status_tells_how_far_behind_a_projection_is(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus:
            await paid_into(bus, 4)
            await paid_into(bus, 2)
            (before,) = await Projections(bus).status("purses")
            assert before.lag
            assert (before.lag.events, before.lag.more) == (6, False)
            assert before.lag.oldest
            assert 0 <= before.lag.seconds < 60
            async with Worker(bus):
                await bus.query(CountPurses(), after=await paid_into(bus, 3), timeout=30)
            (after,) = await Projections(bus).status("purses")
            assert after.lag == Lag()

    async def test_a_part_is_made_anew_in_place(self, make: Callable[..., Bus]) -> None:
        async with make() as bus, Worker(bus):
            receipt = await paid_into(bus, 12)
            await bus.query(CountPurses(), after=receipt, timeout=30)
            await bus.query(GetBank(), after=receipt, timeout=30)
            await until(partial(swept, bus), "purses are swept")
            projections = Projections(bus)
            began = clock.now() - timedelta(minutes=1)
            for chosen in (
                {"streams": ["purse-p3"]},
                {"documents": ["p3"]},
                {"matching": "purse-p[23]"},
                {"since": began},
            ):
                await damage(bus, "purses", "p3", {"total": 99})
                await damage(bus, "purses", "p7", {"total": 98})
                found = await projections.refold("purses", **chosen)
                assert "p3" in {one.key for one in found.differences if one.repaired}
                assert ("p7" in {one.key for one in found.differences}) == ("since" in chosen)
                assert await bus.query(GetPurse(purse_id="p3")) == PurseView(id="p3", total=1)
            await damage(bus, "banks", "b", {"total": 0})
            (mended,) = (await projections.refold("banks", streams=["purse-p1"])).differences
            assert (mended.key, mended.repaired) == ("b", True)
            with pytest.raises(ProjectionError, match="say which part"):
                await projections.refold("purses")

    async def test_a_document_whose_version_was_overwritten_is_put_right(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 3), timeout=30)
            await until(partial(swept, bus), "purses are swept")
            await damage(bus, "purses", "p1", {"_version": "two"})
            receipt = await bus.execute(Pay(purse_id="p1", amount=4))
            (one,) = [o.of for o in bus.runtime.declared if o.name == "purses"]
            target = await bus.runtime.catalogue.target(one)  # type: ignore[arg-type]

            async def parked() -> bool:
                return bool(await bus.runtime.control.parked(target))

            await until(parked, "the stream is parked")
            found = await Projections(bus).refold("purses", streams=["purse-p1"])
            assert [(o.key, o.repaired) for o in found.differences] == [("p1", True)]
            got = await bus.query(GetPurse(purse_id="p1"), after=receipt, timeout=20)
            assert got == PurseView(id="p1", total=5)

            async def unparked() -> bool:
                return not await parked()

            await until(unparked, "the stream goes on")

    async def test_a_document_whose_streams_wait_is_repaired_without_counting_them_twice(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus:
            async with Worker(bus):
                await bus.query(GetBank(), after=await paid_into(bus, 5), timeout=30)
            await paid_into(bus, 3)
            await damage(bus, "banks", "b", {"total": 99})
            audited = await Projections(bus).audit("banks", repair=True)
            assert audited.is_right
            async with Worker(bus):
                receipt = await paid_into(bus, 1)
                assert await bus.query(GetBank(), after=receipt, timeout=30) == BankView(
                    id="b", total=9
                )

    async def test_what_a_late_worker_applies_while_documents_are_repaired_is_not_taken_away(
        self, make: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was frozen before it learned of the pause."""

        async def apply() -> None:
            await bus.execute(Pay(purse_id="p1", amount=1))
            await apply_past_the_pause(bus, "banks", "purse-p1")

        before_comparing(monkeypatch, apply)
        async with make() as bus:
            async with Worker(bus):
                await bus.query(GetBank(), after=await paid_into(bus, 5), timeout=30)
            await damage(bus, "banks", "b", {"total": 99})
            audited = await Projections(bus).audit("banks", repair=True)
            assert audited.is_right
            assert await bus.query(GetBank()) == BankView(id="b", total=6)
            async with Worker(bus):
                receipt = await paid_into(bus, 1)
                found = await bus.query(GetBank(), after=receipt, timeout=30)
                assert found == BankView(id="b", total=7)

    async def test_streams_that_cannot_be_folded_are_listed_however_many(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 30), timeout=30)
        async with make(bad="unlucky") as bus, Worker(bus):
            for number in range(12):
                await bus.execute(Pay(purse_id=f"p{number}", amount=13))

            async def all_parked() -> bool:
                (status,) = await Projections(bus).status("purses")
                return status.parked == 12

            await until(all_parked, "twelve streams are parked", within=60)
            audited = await Projections(bus).audit("purses")
            assert (audited.differences, len(audited.parked)) == ((), 12)

    async def test_streams_of_others_are_refused(self, make: Callable[..., Bus]) -> None:
        async with make() as bus:
            with pytest.raises(ProjectionError, match="'note-p1' is not one; write it as purse-ID"):
                await Projections(bus).refold("purses", streams=["note-p1"])

    async def test_an_audit_leaves_nothing_and_removes_what_a_killed_one_left_a_day_ago(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(GetBank(), after=await paid_into(bus, 3), timeout=30)
            collections = cast(LoadsInBulk, bus.runtime.collections)
            (one,) = [o.of for o in bus.runtime.declared if o.name == "banks"]
            target = await bus.runtime.catalogue.target(one)  # type: ignore[arg-type]
            recent, old = (f"{target.collection}__audit_{id_of(hours)}" for hours in (1, 30))
            for collection in (recent, old):
                left = target._replace(collection=collection)
                await collections.prepare(left)
                await collections.insert(left, [{"_id": "b"}])
            await Projections(bus).audit("banks")
            left_over = {one for one in await collections.identities() if "__audit_" in one}
            assert left_over == {recent}
            assert (await bus.runtime.control.note("audits/banks")).revision == 0

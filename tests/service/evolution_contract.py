"""Events of older names and shapes, read in every way there is, on any pair of transport and
stores."""

from collections.abc import Callable
from functools import partial

import pytest

from bus import Bus, DeadLetters, Projections, Receipt, Settings, Worker
from tests.service.shop import GetOrder, GetSum, GetTotal, Mails, Note, Place, new, old
from tests.waiting import until

Make = Callable[..., Bus]


class EvolutionContract:
    """Subclasses give `ground`: settings over which both versions share a broker and stores."""

    @pytest.fixture
    def mails(self) -> Mails:
        return Mails()

    @pytest.fixture
    def old(self, ground: Settings, unique: str, mails: Mails) -> Make:
        return partial(old, ground, unique, mails)

    @pytest.fixture
    def new(self, ground: Settings, unique: str, mails: Mails) -> Make:
        return partial(new, ground, unique, mails)

    async def totals(self, bus: Bus, after: Receipt | None = None) -> tuple[int, int]:
        """Of the order "a", and of all."""
        order = await bus.query(GetOrder(order_id="a"), after=after, timeout=30)
        everything = await bus.query(GetSum(), after=after, timeout=30)
        return order.total if order else 0, everything.total if everything else 0

    async def test_an_aggregate_is_loaded_from_events_of_older_names_and_shapes(
        self, old: Make, new: Make
    ) -> None:
        """And not from the snapshot that the older version made of them, which holds euros."""
        async with old() as bus:
            for euros in (1, 2, 3):
                await bus.execute(Place(order_id="a", euros=euros))
            assert await bus.runtime.event_log.snapshot("order-a")
        async with new() as bus:
            assert (await bus.execute(GetTotal(order_id="a"))).result == 600
            await bus.execute(Place(order_id="a", euros=4))
            assert (await bus.execute(GetTotal(order_id="a"))).result == 1000
            stored = [e for c in await bus.runtime.event_log.read("order-a") for e in c.events]
            assert [(e.name, e.schema, e.data) for e in stored[2:]] == [
                ("Placed", 1, {"euros": 3}),
                ("OrderPlaced", 2, {"cents": 400}),
            ]

    async def test_a_snapshot_of_an_older_shape_is_made_anew_by_the_next_command(
        self, old: Make, new: Make
    ) -> None:
        async with old() as bus:
            for euros in (1, 2):
                await bus.execute(Place(order_id="a", euros=euros))
            older = await bus.runtime.event_log.snapshot("order-a")
        async with new() as bus:
            await bus.execute(Place(order_id="a", euros=3))
            newer = await bus.runtime.event_log.snapshot("order-a")
            assert (await bus.execute(GetTotal(order_id="a"))).result == 600
        assert older
        assert newer
        assert (older.version, newer.version) == (2, 3)
        assert older.shape != newer.shape

    async def test_what_waits_and_what_arrives_under_older_names_is_handled_and_projected(
        self, old: Make, new: Make, mails: Mails
    ) -> None:
        async with old() as before:
            await before.execute(Place(order_id="a", euros=1))
            async with new() as after, Worker(after):
                await until(lambda: mails.sent == [("order-a", 100)], "what waited is handled")
                receipt = await before.execute(Place(order_id="a", euros=2))
                assert await self.totals(after, receipt) == (300, 300)
                receipt = await after.execute(Place(order_id="a", euros=3))
                assert await self.totals(after, receipt) == (600, 600)
                await until(lambda: len(mails.sent) == 3, "all of them are handled")
        assert mails.sent == [("order-a", 100), ("order-a", 200), ("order-a", 300)]

    async def test_a_rebuild_reads_events_of_older_names_and_shapes(
        self, old: Make, new: Make
    ) -> None:
        """Stream by stream in one projection, in time in the other."""
        async with old() as bus, Worker(bus):
            await bus.execute(Place(order_id="b", euros=1))
            await bus.execute(Place(order_id="a", euros=1))
            await bus.execute(Note(order_id="a", text="of no class in the new version"))
            receipt = await bus.execute(Place(order_id="a", euros=2))
            assert await self.totals(bus, receipt) == (3, 4)
        async with new(version=2) as bus, Worker(bus):

            async def built() -> bool:
                states = {one.collection: one.state for one in await Projections(bus).status()}
                return (states["views__v2"], states["sums__v2"]) == ("read", "read")

            await until(built, "both projections are built", within=60)
            assert await self.totals(bus) == (300, 400)
            receipt = await bus.execute(Place(order_id="a", euros=3))
            assert await self.totals(bus, receipt) == (600, 700)

    async def test_a_sweep_reads_events_of_older_names_and_shapes(
        self, ground: Settings, unique: str, mails: Mails, old: Make
    ) -> None:
        async with old() as bus:
            bus.runtime.publisher._open = False  # nobody hears of it but by the sweep
            receipt = await bus.execute(Place(order_id="a", euros=1))
            await bus.runtime.event_log.confirmed([receipt.id])
        hurried = ground.model_copy(update={"sweep_every": 1.0})
        async with new(hurried, unique, mails) as bus, Worker(bus):

            async def swept() -> bool:
                return await self.totals(bus) == (100, 100)

            await until(swept, "the sweep has found it", within=30)

    async def test_dead_letters_of_older_names_and_shapes_are_handled_once_retried(
        self, old: Make, new: Make, mails: Mails
    ) -> None:
        mails.is_down = True
        async with old() as bus, Worker(bus):
            await bus.execute(Place(order_id="a", euros=1))
            await bus.execute(Place(order_id="b", euros=2))
            letters = DeadLetters(bus)

            async def both() -> bool:
                return len(await letters.list()) == 2

            await until(both, "both are given up")
        mails.is_down = False
        async with new() as bus, Worker(bus):
            letters = DeadLetters(bus)
            (edited,) = [one for one in await letters.list() if one.stream == "order-b"]
            assert edited.message == "Placed"
            await letters.edit(edited.id, {"euros": 5})
            outcome = await letters.retry(all=True)
            assert (len(outcome.done), outcome.failed) == (2, {})
            await until(lambda: len(mails.sent) == 2, "both are handled")
            assert sorted(mails.sent) == [("order-a", 100), ("order-b", 500)]

            async def gone() -> bool:
                return not await letters.list()

            await until(gone, "no dead letter is left")

    async def test_events_whose_class_is_gone_hold_up_nobody(
        self, old: Make, new: Make, mails: Mails
    ) -> None:
        """The router's queue is still bound to their name, and the projections' categories are."""
        async with old() as before, new() as after, Worker(after):
            await before.execute(Place(order_id="a", euros=1))
            await before.execute(Note(order_id="a", text="of no class in the new version"))
            await before.execute(Note(order_id="a", text="once more"))
            receipt = await before.execute(Place(order_id="a", euros=2))
            assert await self.totals(after, receipt) == (300, 300)
            assert (await after.execute(GetTotal(order_id="a"))).result == 300
            await until(lambda: len(mails.sent) == 2, "the orders are handled")
            assert await DeadLetters(after).list() == []

"""Clocks that jump by hours, forth and back: nothing is lost, nothing stands still for long."""

import asyncio
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from bus import Bus, Projection, Receipt, Session, Settings, Worker
from bus.common import clock
from bus.read import sweeper as sweeping
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper
from bus.stores.control import Control
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryControl
from bus.testing import HeldTime, ambient_source, chaos
from bus.write.relay import Relay
from tests.fault import payments
from tests.service.wallet import Diary, GetWallet, Pay, WalletView, build
from tests.waiting import patience, until

HOUR = 3600.0
HOURS = 3 * HOUR


@pytest.mark.parametrize("seed", range(4))
async def test_a_clock_that_jumps_back_and_forth_under_fire_changes_nothing(seed: int) -> None:
    diary = Diary()
    async with chaos(payments.wallets(diary), seed=seed) as world:
        jumping = asyncio.create_task(_jump(world.advance, seed))
        await payments.pay(world)
        jumping.cancel()
        await world.settle()
        await payments.check(world, diary)


async def _jump(advance: Callable[[float], None], seed: int) -> None:
    for jump in [HOURS, -HOURS, -HOURS, HOURS] * 1000:
        await asyncio.sleep(0.01 + seed / 1000)
        advance(jump)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_a_lease_ends_in_its_time_though_the_clock_jumps(
    jump: float, frozen_time: HeldTime
) -> None:
    control: Control = MemoryControl()
    assert await control.lease("relay", "a", 10)
    assert not await control.lease("relay", "b", 10)
    frozen_time.advance(jump)
    assert await control.lease("relay", "b", 10)
    assert not await control.lease("relay", "a", 10)


async def test_the_databases_leases_follow_its_own_clock(
    real_settings: Settings, unique: str, frozen_time: HeldTime
) -> None:
    async with build(real_settings, Diary(), unique) as bus:
        control = bus.runtime.control
        assert await control.lease("relay", "a", 5 * patience())
        for jump in (HOURS, -2 * HOURS):
            frozen_time.advance(jump)
            assert not await control.lease("relay", "$b", 10)
        await until(lambda: control.lease("relay", "$b", 10), "the lease to end")
        assert not await control.lease("relay", "a", 10)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_what_was_stored_before_the_clock_jumped_is_relayed(
    jump: float, frozen_time: HeldTime
) -> None:
    async with build(Settings.in_memory(), Diary()) as bus:
        bus.runtime.publisher._open = False  # a crash between storing and publishing
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        bus.runtime.publisher.start()
        frozen_time.advance(jump)
        runtime = bus.runtime
        assert await Relay(runtime.event_log, runtime.publisher, runtime.control).relay_once()
        async with Worker(bus, only=["wallets"]):
            assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_a_parked_stream_is_tried_again_though_the_clock_jumps(
    jump: float, frozen_time: HeldTime
) -> None:
    diary = Diary()
    async with build(Settings.in_memory(), diary) as bus:
        receipt = await bus.execute(Pay(wallet_id="a", amount=1, mood="unprojectable"))
        projector = projector_of(bus)
        await projector.apply_streams(["wallet-a"])
        assert not projector.has_due
        diary.mended = True
        frozen_time.advance(jump)
        await Sweeper(
            projector, bus.runtime.event_log, bus.runtime.collections, bus.runtime.control
        ).tend()
        found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
    assert found == WalletView(id="a", total=1)


async def test_what_never_arrived_is_swept_though_the_clock_was_set_back(
    frozen_time: HeldTime,
) -> None:
    async with build(Settings.in_memory(), Diary()) as bus:
        runtime = bus.runtime
        sweeper = Sweeper(
            projector_of(bus), runtime.event_log, runtime.collections, runtime.control
        )
        await bus.execute(Pay(wallet_id="a", amount=1))
        frozen_time.advance(60)
        await sweeper.sweep()
        frozen_time.advance(-HOURS)
        assert await sweeper.is_due(60)
        ahead = await bus.execute(Pay(wallet_id="b", amount=2))
        frozen_time.advance(60)
        await sweeper.sweep()
        assert await bus.query(GetWallet(wallet_id="b"), after=ahead, timeout=30)
        assert not await sweeper.is_due(60)
        swept = await runtime.control.swept(projector_of(bus).target)
        assert swept is not None
        assert clock.now() - swept < timedelta(minutes=1)


async def test_ids_stay_unique_though_the_clock_jumps(frozen_time: HeldTime) -> None:
    ids: set[str] = set()
    for jump in (HOURS, -HOURS, 0.0, -HOURS, HOURS) * 20:
        frozen_time.advance(jump)
        ids |= {clock.new_id() for _ in range(100)}
    assert len(ids) == 10_000
    async with build(Settings.in_memory(), Diary()) as bus, Worker(bus):
        receipts: list[Receipt] = []
        for jump in (HOURS, -2 * HOURS, HOURS):
            frozen_time.advance(jump)
            receipts.append(await bus.execute(Pay(wallet_id="a", amount=1)))
        found = await bus.query(GetWallet(wallet_id="a"), after=receipts[-1], timeout=30)
    assert found == WalletView(id="a", total=3)


def projector_of(bus: Bus) -> Projector:
    (projection,) = (s.of for s in bus.runtime.subscriptions if isinstance(s.of, Projection))
    runtime = bus.runtime
    writer = runtime.collections.writer(projection.target(), "sweep")
    return Projector(
        projection,
        projection.target(),
        runtime.event_log,
        runtime.collections,
        runtime.control,
        writer,
    )


# --- processes whose clocks are wrong, on one database ----------------------------------------


@pytest.fixture(params=[24 * HOUR, -15 * 24 * HOUR], ids=["a day ahead", "15 days behind"])
def wrong(request: pytest.FixtureRequest) -> "Wrong":
    """The clock of one of two processes."""
    return Wrong(request.param)


class Wrong(clock.Source):
    """Real time, out by some seconds."""

    def __init__(self, out: float) -> None:
        super().__init__()
        self._out = out

    def seconds(self) -> float:
        return super().seconds() + self._out


async def test_what_a_wrong_clock_stored_and_nobody_delivered_is_swept_at_once(
    real_settings: Settings, unique: str, wrong: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_GRACE", timedelta(0))
    async with build(real_settings, Diary(), unique) as right:
        runtime = right.runtime
        sweeper = Sweeper(
            projector_of(right), runtime.event_log, runtime.collections, runtime.control
        )
        await sweeper.sweep()
        with ambient_source(wrong):
            async with build(real_settings, Diary(), unique) as other:
                receipt = await other.execute(Pay(wallet_id="a", amount=1))
        assert await sweeper.sweep() == 1
        assert await right.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)


async def test_a_sweep_by_a_wrong_clock_finds_what_nobody_delivered_and_hides_nothing(
    real_settings: Settings, unique: str, wrong: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_GRACE", timedelta(0))
    async with build(real_settings, Diary(), unique) as right:
        for name, by in (("a", wrong), ("b", clock.source)):
            receipt = await right.execute(Pay(wallet_id=name, amount=1))
            with ambient_source(by):
                async with build(real_settings, Diary(), unique) as other:
                    runtime = other.runtime
                    sweeper = Sweeper(
                        projector_of(other), runtime.event_log, runtime.collections, runtime.control
                    )
                    assert name == "a" or not await sweeper.is_due(60)
                    await sweeper.sweep()
            assert await right.query(GetWallet(wallet_id=name), after=receipt, timeout=30)


async def test_marks_and_commits_of_a_wrong_clock_have_the_servers_time(
    real_settings: Settings, unique: str, wrong: Wrong
) -> None:
    with ambient_source(wrong):
        async with build(real_settings, Diary(), unique) as bus:
            receipt = await bus.execute(Pay(wallet_id="a", amount=1))
            assert bus.runtime.event_log.now() != clock.now()

            async def nothing(session: Session) -> list[Commit]:
                return []

            await bus.runtime.effects.open()
            await bus.runtime.effects.once("mark", nothing)
            projector = projector_of(bus)
            await bus.execute(Pay(wallet_id="bad", amount=1, mood="unprojectable"))
            await projector.apply_streams(["wallet-bad"])
            (stored,) = await bus.runtime.event_log.find(receipt.id)
            (parked,) = await bus.runtime.control.parked(projector.target)
    client: MongoClient[Any] = MongoClient(real_settings.mongo_url, tz_aware=True)
    with client:
        now = client.admin.command("hello")["localTime"].replace(tzinfo=UTC)
        (mark,) = client[real_settings.mongo_db]["handled"].find({"_id": "mark"})
    for time in (stored.time, mark["time"], parked.first_seen, parked.next_try):
        assert abs(time - now) < timedelta(minutes=1)


async def test_the_databases_time_is_told_to_processes_without_that_of_their_own(
    real_settings: Settings, unique: str, frozen_time: HeldTime
) -> None:
    async with build(real_settings, Diary(), unique) as bus:
        before = bus.runtime.control.now()
        for jump in (HOURS, -2 * HOURS):
            frozen_time.advance(jump)
            assert timedelta(0) <= bus.runtime.control.now() - before < timedelta(minutes=1)

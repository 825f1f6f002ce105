"""Clocks that jump by hours, forth and back: nothing is lost, nothing stands still for long."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from bus import Bus, Projection, Receipt, Settings, Worker, ambient
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper
from bus.stores.base import ReadStore
from bus.stores.memory import MemoryReadStore
from bus.testing import HeldTime, chaos
from bus.write.relay import Relay
from tests.fault import payments
from tests.service.wallet import Diary, GetWallet, Pay, WalletView, build
from tests.waiting import until

HOURS = 3 * 3600.0


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
    store: ReadStore = MemoryReadStore()
    assert await store.lease("relay", "a", 10)
    assert not await store.lease("relay", "b", 10)
    frozen_time.advance(jump)
    assert await store.lease("relay", "b", 10)
    assert not await store.lease("relay", "a", 10)


async def test_the_databases_leases_follow_its_own_clock(
    real_settings: Settings, unique: str, frozen_time: HeldTime
) -> None:
    async with build(real_settings, Diary(), unique) as bus:
        store = bus.parts.read_store
        assert await store.lease("relay", "a", 0.3)
        for jump in (HOURS, -2 * HOURS):
            frozen_time.advance(jump)
            assert not await store.lease("relay", "$b", 10)
        await until(lambda: store.lease("relay", "$b", 10), "the lease to end")
        assert not await store.lease("relay", "a", 10)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_what_was_stored_before_the_clock_jumped_is_relayed(
    jump: float, frozen_time: HeldTime
) -> None:
    async with build(Settings.in_memory(), Diary()) as bus:
        bus.parts.publisher._open = False  # a crash between storing and publishing
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        bus.parts.publisher.start()
        frozen_time.advance(jump)
        parts = bus.parts
        assert await Relay(parts.event_log, parts.publisher, parts.read_store).relay_once()
        async with Worker(bus, only=["wallets"]):
            assert await bus.query(GetWallet(wallet_id="a"), after=receipt)


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
        await Sweeper(projector, bus.parts.event_log, bus.parts.read_store).tend()
        found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=1)
    assert found == WalletView(id="a", total=1)


async def test_what_never_arrived_is_swept_though_the_clock_was_set_back(
    frozen_time: HeldTime,
) -> None:
    async with build(Settings.in_memory(), Diary()) as bus:
        parts = bus.parts
        sweeper = Sweeper(projector_of(bus), parts.event_log, parts.read_store)
        await bus.execute(Pay(wallet_id="a", amount=1))
        frozen_time.advance(60)
        await sweeper.sweep()
        frozen_time.advance(-HOURS)
        assert await sweeper.is_due(60)
        ahead = await bus.execute(Pay(wallet_id="b", amount=2))
        frozen_time.advance(60)
        await sweeper.sweep()
        assert await bus.query(GetWallet(wallet_id="b"), after=ahead, timeout=1)
        assert not await sweeper.is_due(60)
        swept = await parts.read_store.swept(projector_of(bus).target)
        assert swept is not None
        assert ambient.now() - swept < timedelta(minutes=1)


async def test_ids_stay_unique_though_the_clock_jumps(frozen_time: HeldTime) -> None:
    ids: set[str] = set()
    for jump in (HOURS, -HOURS, 0.0, -HOURS, HOURS) * 20:
        frozen_time.advance(jump)
        ids |= {ambient.new_id() for _ in range(100)}
    assert len(ids) == 10_000
    async with build(Settings.in_memory(), Diary()) as bus, Worker(bus):
        receipts: list[Receipt] = []
        for jump in (HOURS, -2 * HOURS, HOURS):
            frozen_time.advance(jump)
            receipts.append(await bus.execute(Pay(wallet_id="a", amount=1)))
        found = await bus.query(GetWallet(wallet_id="a"), after=receipts[-1])
    assert found == WalletView(id="a", total=3)


def projector_of(bus: Bus) -> Projector:
    (projection,) = (s.of for s in bus.parts.subscriptions if isinstance(s.of, Projection))
    parts = bus.parts
    writer = parts.read_store.writer(projection.target(), "sweep")
    return Projector(projection, projection.target(), parts.event_log, parts.read_store, writer)

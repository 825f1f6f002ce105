"""Worker processes that are killed, stopped and doubled while commands come in."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus import Bus, Projection, Settings
from bus.data.ids import key_of
from tests.end_to_end.processes import WorkerProcess
from tests.service.wallet import Diary, Pay, build
from tests.waiting import patience, until

WALLETS = 40


@pytest.fixture
def settings(real_settings: Settings) -> Settings:
    return real_settings


@pytest.fixture
async def bus(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    async with build(settings, Diary(), unique) as bus:
        yield bus


async def pay(bus: Bus, count: int) -> dict[str, int]:
    """Pays `count` times into some wallets, concurrently; returns the versions reached."""
    versions: dict[str, int] = {}

    async def client(number: int) -> None:
        for turn in range(count // 20):
            receipt = await bus.execute(
                Pay(wallet_id=f"w{(number + turn * 20) % WALLETS}", amount=1)
            )
            for stream, version in receipt.versions.items():
                versions[stream] = max(versions.get(stream, 0), version)

    await asyncio.gather(*(client(number) for number in range(20)))
    return versions


async def expect_every_payment_once(bus: Bus, versions: dict[str, int]) -> None:
    """Each payment is one version and one unit of money, so both must have come to the same."""
    (target,) = (s.of.target() for s in bus.runtime.subscriptions if isinstance(s.of, Projection))
    collections = bus.runtime.collections

    async def caught_up() -> bool:
        return await collections.versions(target, list(versions)) == versions

    await until(caught_up, "the documents are not at the versions written", within=30)
    found = {one["_id"]: one["total"] for one in await collections.documents(target).find({})}
    assert found == {key_of(stream): version for stream, version in versions.items()}


async def test_a_worker_killed_in_the_middle_of_batches_loses_and_repeats_nothing(
    bus: Bus, settings: Settings, unique: str, tmp_path: Path
) -> None:
    chance = random.Random(7)
    async with WorkerProcess(settings, unique, tmp_path / "log", "--only", "wallets") as worker:
        await worker.ready()
        paying = asyncio.create_task(pay(bus, 4000))
        kills = 0
        while not paying.done() and kills < 5:
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            worker.kill()
            await worker.ended(5)
            kills += 1
            await worker.start()
        versions = await paying
        assert kills >= 2
        await expect_every_payment_once(bus, versions)


async def test_sigterm_under_load_finishes_what_is_held_and_the_next_worker_goes_on(
    bus: Bus, settings: Settings, unique: str, tmp_path: Path
) -> None:
    patient = {"BUS_STOP_WITHIN": str(10 * patience())}
    first = WorkerProcess(settings, unique, tmp_path / "first", names=patient)
    second = WorkerProcess(settings, unique, tmp_path / "second", names=patient)
    async with first, second:
        await first.ready()
        await second.ready()
        paying = asyncio.create_task(pay(bus, 3000))
        await asyncio.sleep(0.5)
        first.signal(signal.SIGTERM)
        started = time.monotonic()
        assert await first.ended(12) == 0
        assert time.monotonic() - started < 10 * patience()
        assert '"unfinished": 0' in first.log()
        await expect_every_payment_once(bus, await paying)


async def test_sigint_stops_gracefully_too_and_a_second_signal_at_once(
    settings: Settings, unique: str, tmp_path: Path
) -> None:
    async with WorkerProcess(settings, unique, tmp_path / "log") as worker:
        await worker.ready()
        worker.signal(signal.SIGINT)
        assert await worker.ended(12) == 0
        await worker.start()
        await until(lambda: worker.log().count("worker_started") == 2, "started again", within=30)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            worker.signal(number)  # so that both wait for it, before it has begun to stop
        assert await worker.ended(2) in (128 + signal.SIGINT, 128 + signal.SIGTERM)


async def test_of_two_workers_one_takes_over_when_the_other_is_killed(
    bus: Bus, settings: Settings, unique: str, tmp_path: Path
) -> None:
    first = WorkerProcess(settings, unique, tmp_path / "first", "--only", "wallets")
    second = WorkerProcess(settings, unique, tmp_path / "second", "--only", "wallets")
    async with first:
        await first.ready()
        async with second:
            await second.ready()
            versions = await pay(bus, 400)
            first.kill()
            later = await pay(bus, 400)
            await expect_every_payment_once(bus, versions | later)


async def test_a_frozen_worker_that_comes_back_corrupts_nothing(
    bus: Bus, settings: Settings, unique: str, tmp_path: Path
) -> None:
    frozen = WorkerProcess(settings, unique, tmp_path / "frozen", "--only", "wallets")
    heir = WorkerProcess(settings, unique, tmp_path / "heir", "--only", "wallets")
    async with frozen:
        await frozen.ready()
        paying = asyncio.create_task(pay(bus, 2000))
        await asyncio.sleep(0.3)
        frozen.signal(signal.SIGSTOP)
        async with heir:
            await heir.ready()
            versions = await paying
            await expect_every_payment_once(bus, versions)
            frozen.signal(signal.SIGCONT)
            versions |= await pay(bus, 400)
            await expect_every_payment_once(bus, versions)


async def test_a_wrong_import_string_is_a_clear_error(tmp_path: Path, settings: Settings) -> None:
    worker = WorkerProcess(settings, "x", tmp_path / "log", "--only", "nothing")
    async with worker:
        assert await worker.ended(30) == 2
    assert (
        "only='nothing': service 'x' has no subscription of that name; it has commands, "
        "thanking, complaints, wallets" in worker.log()
    )

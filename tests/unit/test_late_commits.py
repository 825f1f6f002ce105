"""A commit that becomes visible long after its time, as one whose transaction is held open: sweeps,
builds, lags, marks of quiet queues and what followers are told leave room for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from bus import Backend, Bus, Settings, Worker
from bus.assembly.backend import default_backend
from bus.common import clock
from bus.failures.give_up import GiveUp
from bus.following.protocol import AskHeads, AskPart, TellHeads, TellPart, Word
from bus.following.sender import HistorySender, ReplayConsumer
from bus.observe.loops import Loops
from bus.read.lag import LagMeter
from bus.read.projection import Projection
from bus.recovery import losses
from bus.recovery.losses import Losses, Resending
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryEventLog
from bus.stores.routed import RoutedLog
from tests.service.rebuild_contract import GetPurse, PurseView, paid_into, service
from tests.waiting import until

HELD = 3600.0
"""Seconds: far beyond every overlap and grace."""

MakeBus = Callable[..., Bus]


class HeldLog(MemoryEventLog):
    """A log in which a transaction can be held open."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[Commit] = []

    async def settled(self) -> datetime:
        return min([self.now(), *(commit.time for commit in self.under_way)])

    async def hold(self) -> Commit:
        """Begins to store a payment into the purse p9; nobody will publish it."""
        (paid,) = await self.read("purse-p0")
        commit = paid._replace(id="held", stream="purse-p9", time=self.now())
        self.under_way.append(commit)
        return commit

    async def end(self) -> None:
        await self.append(self.under_way)
        await self.confirmed([commit.id for commit in self.under_way])
        self.under_way = []


@pytest.fixture
def log() -> HeldLog:
    return HeldLog()


@pytest.fixture
def make(log: HeldLog) -> MakeBus:
    settings = Settings.in_memory()
    usual = default_backend(settings)

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        return replace(usual(service, projected, loops), event_log=log)

    def make(**options: Any) -> Bus:
        return service(settings, "bank", backend=backend, **options)

    return make


@pytest.fixture
async def bus(make: MakeBus) -> AsyncIterator[Bus]:
    async with make() as bus:
        await paid_into(bus, 1)
        yield bus


def purses_of(bus: Bus) -> Projection[Any]:
    (found,) = [one for one in bus.runtime.projections if one.name == "purses"]
    return found


async def is_shown(bus: Bus) -> bool:
    return await bus.query(GetPurse(purse_id="p9")) == PurseView(id="p9", total=1)


async def test_a_sweep_finds_it(bus: Bus, log: HeldLog) -> None:
    async with Worker(bus):
        await asyncio.sleep(1)
        await log.hold()
        await asyncio.sleep(HELD)
        await log.end()
        await until(lambda: is_shown(bus), "it is swept", within=2 * 60 + 10)


async def test_while_it_is_held_sweeps_come_no_more_often(
    bus: Bus, log: HeldLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[float] = []
    arrived = log.arrived

    def counted(*arguments: Any) -> AsyncIterator[Commit]:
        scans.append(clock.source.elapsed())
        return arrived(*arguments)

    async with Worker(bus, only=["purses"]):
        await log.hold()
        await asyncio.sleep(600)
        monkeypatch.setattr(log, "arrived", counted)
        await asyncio.sleep(600)
    assert 18 <= len(scans) <= 22  # two each, every 60 seconds


async def test_a_collection_that_was_built_meanwhile_gets_it(make: MakeBus, log: HeldLog) -> None:
    async with make() as bus:
        await paid_into(bus, 1)
        await log.hold()
        await asyncio.sleep(HELD)
        async with Worker(bus):
            await until(lambda: bus.query(GetPurse(purse_id="p0")), "it is built")
        await log.end()
        async with Worker(bus):
            await until(lambda: is_shown(bus), "it is swept", within=10)


async def test_a_lag_counts_it(bus: Bus, log: HeldLog) -> None:
    runtime = bus.runtime
    target = purses_of(bus).target()
    async with Worker(bus):
        await until(lambda: bus.query(GetPurse(purse_id="p0")), "it is applied")
    meter = LagMeter(["purse"], target, runtime.read_log, runtime.collections, runtime.control)
    await log.hold()
    await asyncio.sleep(HELD)
    assert (await meter.measure()).events == 0
    await log.end()
    assert (await meter.measure()).events == 1


async def test_a_queue_counts_as_quiet_up_to_it(bus: Bus, log: HeldLog) -> None:
    noting = Losses(bus.runtime)
    resending = Resending(bus.runtime, noting, ["commands"])
    await asyncio.sleep(HELD)
    commit = await log.hold()
    await asyncio.sleep(HELD)
    await resending.mark()
    await resending.mark()
    quiet = (await noting.read())["commands"]["quiet"]
    limit = max(router.time_limit for router in bus.runtime.routers.values())
    assert datetime.fromisoformat(quiet) == commit.time - losses.in_hand(limit)


class Words(HistorySender):
    """What a follower is told."""

    def __init__(self) -> None:
        self.events = 0
        self.words: list[Word] = []

    async def send(self, commits: Sequence[Commit], after: int = 0) -> None:
        self.events += len(commits)

    async def send_word(self, word: Word) -> None:
        self.words.append(word)


async def test_followers_compare_from_it_on(bus: Bus, log: HeldLog) -> None:
    runtime = bus.runtime
    replay = ReplayConsumer("bank", log, runtime.transport, runtime.control, GiveUp(runtime))
    commit = await log.hold()
    await asyncio.sleep(HELD)
    told = Words()
    await replay._answer(AskPart(service="shop", category="purse", after="", token="t"), told)
    since = commit.time - timedelta(hours=1)
    heads = AskHeads(service="shop", category="purse", since=since, token="t")
    await replay._answer(heads, told)
    part, *_, last = told.words
    assert isinstance(part, TellPart)
    assert isinstance(last, TellHeads)
    assert part.time is not None
    assert last.until is not None
    assert max(part.time, last.until) <= commit.time


@pytest.mark.parametrize("held", [0, 1])
async def test_two_logs_read_as_one_are_settled_where_both_are(
    bus: Bus, log: HeldLog, held: int
) -> None:
    logs = [HeldLog(), HeldLog()]
    both = RoutedLog(logs[0], cast(Any, logs[1]), ["purse"])
    assert await both.settled() == clock.now()
    commit = await log.hold()
    logs[held].under_way = [commit]
    await asyncio.sleep(HELD)
    assert await both.settled() == commit.time

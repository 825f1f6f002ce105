"""Facts on real services: each state of a service is told as it is."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from bus import Bus, Settings, Worker, signals
from bus.common import clock
from bus.operate.projections import Projections
from bus.rebuild.builder import Plan, Share, plan_of
from bus.stores.collections import Comparable
from bus.testing.contracts.event_log_contract import commit
from tests.databases import drop
from tests.service.wallet import Diary, Pay, build
from tests.stores import asked
from tests.unit.test_states_measured import Heard
from tests.waiting import until
from tools.services.finding import MONGODB

OFTEN = 0.3


@pytest.fixture(params=[MONGODB, *asked()])
async def settings(
    request: pytest.FixtureRequest, amqp_url: str, mongo_url: str, unique: str
) -> AsyncIterator[Settings]:
    """An empty database, with the log in each of the stores in turn."""
    url = "" if request.param == MONGODB else request.getfixturevalue(f"{request.param}_url")
    yield Settings(
        amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=unique, log_url=url, facts_every=OFTEN
    )
    await drop(mongo_url, unique)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
async def bus(settings: Settings, diary: Diary, unique: str) -> AsyncIterator[Bus]:
    async with build(settings, diary, unique) as bus:
        yield bus


@pytest.fixture
def heard(bus: Bus) -> Heard:
    return Heard(bus)


async def test_a_projection_that_nobody_feeds_lags_and_its_queue_fills(
    bus: Bus, heard: Heard, unique: str
) -> None:
    async with Worker(bus, only=["commands", "thanking"]):
        for _ in range(5):
            await bus.execute(Pay(wallet_id="a", amount=1))
        queue = f"{unique}.wallets"

        def waiting() -> bool:
            queues = {told.queue: told for told in heard.of(signals.QueueMeasured)}
            return queue in queues and queues[queue].messages == 5

        await until(waiting, "its queue holds all events")
        await heard.anew()
        lag = heard.last(signals.LagMeasured)
        assert (lag.projection, lag.events, lag.more) == ("wallets", 5, False)
        assert lag.seconds > 0
        queues = {told.queue: told for told in heard.of(signals.QueueMeasured)}
        assert (queues[queue].consumers, queues[queue].expected) == (0, 1)
        assert queues[f"{unique}.thanking"].consumers == 1
    async with Worker(bus):
        await until(lambda: heard.last(signals.LagMeasured).events == 0, "it has caught up")
        await until(
            lambda: any(told.held for told in heard.of(signals.PartitionHeld)), "it is held here"
        )
        await heard.anew()
        queues = {told.queue: told for told in heard.of(signals.QueueMeasured)}
        assert (queues[queue].messages, queues[queue].consumers) == (0, 1)


async def test_what_the_broker_has_not_confirmed_is_told_until_it_is_relayed(
    bus: Bus, heard: Heard
) -> None:
    log = bus.runtime.event_log

    async def is_told() -> bool:
        """Leaves another one each time: the relay may take one before it is measured."""
        id = clock.new_id()
        await log.append([commit(id, f"wallet-{id}", time=log.now())])
        await asyncio.sleep(0.5)
        return any(told.commits for told in heard.of(signals.BacklogMeasured))

    async with Worker(bus):
        await until(is_told, "it is told")
        told = next(told for told in heard.of(signals.BacklogMeasured) if told.commits)
        assert told.seconds >= 0
        assert not told.more
        await until(
            lambda: heard.last(signals.BacklogMeasured).commits == 0, "the relay has published it"
        )


async def test_parked_streams_and_dead_letters_are_told_until_they_are_mended(
    bus: Bus, heard: Heard, diary: Diary, unique: str
) -> None:
    async with Worker(bus):
        for mood in ("unprojectable", "hopeless", "hopeless"):
            await bus.execute(Pay(wallet_id=mood, amount=1, mood=mood))
        await until(
            lambda: (
                heard.of(signals.LagMeasured)
                and heard.last(signals.LagMeasured).parked == 1
                and heard.last(signals.LettersMeasured).groups
            ),
            "both are told",
        )
        await until(
            lambda: (
                heard.last(signals.LettersMeasured).groups
                == [(f"{unique}.thanking", "Paid", "Hopeless", 2)]
            ),
            "letters are counted by group",
        )
        diary.mended = True
        await until(lambda: heard.last(signals.LagMeasured).parked == 0, "it is released")


async def test_a_build_and_an_audit_are_told(bus: Bus, heard: Heard) -> None:
    async with Worker(bus, only=["commands"]):
        await bus.execute(Pay(wallet_id="a", amount=1))
        building = await Projections(bus).rebuild("wallets")
        control = bus.runtime.control
        plan = Plan(control.now(), 10, (Share("", commits=4),))
        note = await control.note(plan_of(building))
        assert await control.write_note(note._replace(value=plan.document()))
        await until(lambda: bool(heard.of(signals.BuildMeasured)), "the build is told")
        told = heard.last(signals.BuildMeasured)
        assert (told.collection, told.replayed, told.commits) == (building, 4, 10)
        await Projections(bus).drop("wallets", building)
        await heard.anew()
        assert heard.of(signals.BuildMeasured) == []
    async with Worker(bus):
        await until(
            lambda: heard.last(signals.LagMeasured).events == 0, "the projection is up to date"
        )
        (target,) = await bus.runtime.targets()
        comparable = cast(Comparable, bus.runtime.collections)
        found = (await comparable.whole(target, ["a"]))["a"]
        assert await comparable.replace(target, "a", found, {**found, "total": 7})
        began = control.now().timestamp()
        for repair in (False, True):
            await Projections(bus).audit("wallets", repair=repair)
            left = 0 if repair else 1
            await until(
                lambda left=left: any(  # type: ignore[misc]
                    told.differences == left and told.at >= began
                    for told in heard.of(signals.AuditKnown)
                ),
                f"the audit is known, which left {left}",
            )

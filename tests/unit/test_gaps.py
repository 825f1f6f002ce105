"""A stream of another service that lacks an event: what is applied, what waits, and how long."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from bus.codec import record
from bus.common import clock
from bus.read.foreign import Foreign
from bus.read.projector import Projector
from bus.stores.collections import Target
from bus.stores.control import Parked
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.stores.memory.log import MemoryFollowedLog
from bus.testing.clock import HeldTime, ambient_source
from bus.testing.contracts.projection_contract import Deposited, accounts

STREAM = "account-1"


def deposit(version: int) -> Commit:
    id = f"{STREAM}@{version}"
    events = (record(Deposited(amount=version)),)
    return Commit(id, STREAM, "account", version, events, clock.now(), "c")


class Records(MemoryControl):
    """Just before a stream is set aside for the first time, what it lacks comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.comes_late: tuple[MemoryFollowedLog, Commit] | None = None

    async def park(self, target: Target, parked: Parked) -> None:
        if self.comes_late:
            log, commit = self.comes_late
            self.comes_late = None
            await log.keep([commit])
        await super().park(target, parked)


@pytest.fixture
def held() -> Iterator[HeldTime]:
    with ambient_source(HeldTime()) as held:
        yield held


@pytest.fixture
def log() -> MemoryFollowedLog:
    return MemoryFollowedLog()


@pytest.fixture
def control() -> Records:
    return Records()


@pytest.fixture
def collections() -> MemoryCollections:
    return MemoryCollections()


@pytest.fixture
async def projector(
    log: MemoryFollowedLog, collections: MemoryCollections, control: Records, held: HeldTime
) -> Projector:
    projection = accounts()
    target = projection.target()
    await collections.prepare(target)
    writer = collections.writer(target, "q")
    foreign = Foreign({"account": "bank"}, gap_within=30.0)
    return Projector(projection, target, log, collections, control, writer, foreign)


async def parked_in(control: Records, projector: Projector) -> Parked:
    (parked,) = await control.parked(projector.target)
    return parked


async def test_what_precedes_a_gap_is_applied_and_the_rest_waits(
    projector: Projector,
    log: MemoryFollowedLog,
    collections: MemoryCollections,
    control: Records,
    held: HeldTime,
) -> None:
    await log.keep([deposit(version) for version in (1, 2, 4)])
    applied = await projector.apply_streams([STREAM])
    assert applied.events == 2
    assert await collections.versions(projector.target, [STREAM]) == {STREAM: 2}
    parked = await parked_in(control, projector)
    assert (parked.version, parked.is_waiting, parked.is_missed) == (3, True, True)
    assert parked.next_try == clock.now() + timedelta(seconds=30)


async def test_it_fails_only_after_it_was_asked_for_and_waited_for_once_more(
    projector: Projector,
    log: MemoryFollowedLog,
    collections: MemoryCollections,
    control: Records,
    held: HeldTime,
) -> None:
    await log.keep([deposit(2)])
    await projector.apply_streams([STREAM])
    for tries in (0, 1, 2):
        held.advance(31 if tries < 2 else 7)
        assert projector.has_due
        assert await projector.retry_parked() == []
        parked = await parked_in(control, projector)
        assert parked.tries == tries
    assert "version 1 has not arrived from service 'bank'" in parked.reason
    await log.keep([deposit(1)])
    held.advance(31)
    assert await projector.retry_parked() == [STREAM]
    assert await control.parked(projector.target) == []
    assert await collections.versions(projector.target, [STREAM]) == {STREAM: 2}


async def test_another_gap_is_waited_for_anew(
    projector: Projector, log: MemoryFollowedLog, control: Records, held: HeldTime
) -> None:
    await log.keep([deposit(version) for version in (2, 4)])
    await projector.apply_streams([STREAM])
    held.advance(70)
    await log.keep([deposit(1)])
    await projector.retry_parked()
    parked = await parked_in(control, projector)
    assert (parked.version, parked.is_waiting) == (3, True)
    assert parked.first_seen == clock.now()


async def test_what_comes_while_its_stream_is_set_aside_is_not_overlooked(
    projector: Projector,
    log: MemoryFollowedLog,
    collections: MemoryCollections,
    control: Records,
    held: HeldTime,
) -> None:
    await log.keep([deposit(version) for version in (1, 3)])
    control.comes_late = log, deposit(2)
    await projector.apply_streams([STREAM])
    assert await projector.retry_parked() == [STREAM]
    assert await collections.versions(projector.target, [STREAM]) == {STREAM: 3}


async def test_many_gaps_are_no_trouble_of_the_projection(
    projector: Projector, log: MemoryFollowedLog, control: Records, held: HeldTime
) -> None:
    late = [deposit(2)._replace(id=f"{n}", stream=f"account-{n}") for n in range(30)]
    await log.keep(late)
    await projector.apply_streams([one.stream for one in late])
    assert projector.trouble is None
    assert len(await control.parked(projector.target)) == 30


async def test_streams_whose_events_the_own_log_lacks_are_no_trouble_of_the_projection(
    collections: MemoryCollections, control: Records, held: HeldTime
) -> None:
    """As after forged versions that an older release applied, or a log that was restored."""
    projection, log = accounts(), MemoryEventLog()
    target = projection.target()
    await collections.prepare(target)
    writer = collections.writer(target, "q")
    projector = Projector(projection, target, log, collections, control, writer)
    late = [deposit(3)._replace(id=f"{n}", stream=f"account-{n}") for n in range(30)]
    await log.append(late)
    await projector.apply_streams([one.stream for one in late])
    assert projector.trouble is None
    assert len(await control.parked(target)) == 30

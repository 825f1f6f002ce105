from datetime import datetime, timedelta

import pytest

from bus.common import clock
from bus.read.lag import Lag, LagMeter
from bus.stores.collections import Changes, Target
from bus.stores.control import Parked
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog

TARGET = Target("purses", "purses", versions_in_documents=False)


class Purses:
    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.collections, self.control = MemoryCollections(), MemoryControl()
        self.now = clock.now()

    async def happened(self, stream: str, first: int, count: int, age: float) -> None:
        events = tuple(Recorded("Paid", 1, {}) for _ in range(count))
        id, time = f"{stream}/{first}", self.now - timedelta(seconds=age)
        await self.log.append([Commit(id, stream, "purse", first, events, time, id)])

    async def applied(self, **versions: int) -> None:
        async def fold(_: object) -> Changes:
            return Changes([], reached)

        reached = {f"purse-{key}": version for key, version in versions.items()}
        await self.collections.writer(TARGET, "queue").transact(list(reached), fold)

    async def parked(self, stream: str, since: datetime) -> None:
        row = Parked(stream, 1, "ValueError", 1, self.now, first_seen=since)
        await self.control.park(TARGET, row)

    def meter(self, most: int = 1000) -> LagMeter:
        return LagMeter(["purse"], TARGET, self.log, self.collections, self.control, most=most)


@pytest.fixture
def purses() -> Purses:
    return Purses()


async def test_events_are_counted_and_the_oldest_tells_the_time(purses: Purses) -> None:
    await purses.happened("purse-a", 1, 3, age=50)
    await purses.happened("purse-b", 1, 1, age=40)
    await purses.happened("purse-a", 4, 2, age=30)
    await purses.applied(a=2, b=1)
    lag = await purses.meter().measure()
    assert (lag.events, lag.more) == (3, False)
    assert lag.oldest == purses.now - timedelta(seconds=50)
    assert 50 <= lag.seconds < 60


async def test_parked_streams_stand_apart(purses: Purses) -> None:
    await purses.happened("purse-a", 1, 3, age=50)
    since = purses.now - timedelta(seconds=45)
    await purses.parked("purse-a", since)
    assert await purses.meter().measure() == Lag(parked=1, parked_since=since)


async def test_a_long_lag_is_told_as_at_least_that_much(purses: Purses) -> None:
    for number in range(5):
        await purses.happened(f"purse-{number}", 1, 1, age=90 - number)
    lag = await purses.meter(most=3).measure()
    assert (lag.events, lag.more) == (3, True)


async def test_it_goes_on_where_it_stopped(purses: Purses) -> None:
    for number, key in enumerate("abc"):
        await purses.happened(f"purse-{key}", 1, 1, age=90 - number)
    await purses.applied(a=1, b=1)
    meter = purses.meter(most=2)
    assert (await meter.measure()).events == 0
    assert (await meter.measure()).events == 1
    assert (await meter.measure()).events == 1


async def test_it_passes_over_what_comes_faster_than_it_looks(
    purses: Purses, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, key in enumerate("abcdef"):
        await purses.happened(f"purse-{key}", 1, 1, age=200 - number)
    await purses.happened("purse-late", 1, 1, age=35)
    await purses.applied(**dict.fromkeys("abcdef", 1))
    meter = purses.meter(most=2)
    found = []
    for ago in (60, 30, 0):
        moment = purses.now - timedelta(seconds=ago)
        monkeypatch.setattr(purses.control, "now", lambda moment=moment: moment)
        found.append((await meter.measure()).events)
    assert found == [0, 0, 1]

"""What every followed log promises. Subclasses give the fixture `followed`: open, and empty."""

import asyncio
from datetime import datetime, timedelta

import pytest

from bus.errors import InvalidMessage
from bus.stores.event_log import Commit, FollowedLog, Recorded
from bus.testing.contracts.event_log_contract import TIME


def event(stream: str, version: int, *, amount: int = 1, seconds: float = 0.0) -> Commit:
    """Returns another service's event, dated by that service."""
    return Commit(
        id=f"{stream}@{version}",
        stream=stream,
        category=stream.partition("-")[0],
        first=version,
        events=(Recorded("Paid", 1, {"amount": amount}, f"{stream}/{version}:1"),),
        time=TIME + timedelta(seconds=seconds),
        correlation_id="conversation",
        causation_id="cause",
        headers={"traceparent": "00-1-2-01"},
    )


class FollowedLogContract:
    """Tests a followed log: keeping, reading, arrivals. Supply the fixture `followed`."""

    async def test_what_was_kept_is_read_as_it_was(self, followed: FollowedLog) -> None:
        events = [event("job-1", version) for version in (1, 2, 3)]
        await followed.keep(events)
        assert await followed.read("job-1") == events
        assert await followed.read("job-1", after=2) == events[2:]
        assert await followed.read("job-2") == []

    async def test_the_first_to_come_for_a_version_stays(self, followed: FollowedLog) -> None:
        first, second = event("job-1", 1), event("job-1", 2)
        await followed.keep([first])
        await followed.keep([event("job-1", 1, amount=9), second, event("job-1", 2, amount=9)])
        assert await followed.read("job-1") == [first, second]
        assert await followed.count(["job"]) == 2

    async def test_of_many_that_keep_the_same_at_once_each_event_is_there_once(
        self, followed: FollowedLog
    ) -> None:
        events = [event(f"job-{n}", v) for n in range(20) for v in (3, 1, 2)]
        await asyncio.gather(*[followed.keep(events) for _ in range(5)])
        pages = [page async for page in followed.scan_streams("job")]
        found = [kept for page in pages for kept in page]
        assert found == sorted(events, key=lambda kept: (kept.stream, kept.first))

    async def test_events_come_in_any_order_and_leave_gaps(self, followed: FollowedLog) -> None:
        one, two, four = (event("job-1", version) for version in (1, 2, 4))
        await followed.keep([four, one])
        assert await followed.read("job-1") == [one, four]
        assert await followed.read("job-1", after=1) == [four]
        assert await followed.heads(["job-1", "job-2"]) == {"job-1": 4}
        await followed.keep([two])
        assert await followed.read("job-1", after=1) == [two, four]

    async def test_a_scan_goes_by_the_events_own_times(self, followed: FollowedLog) -> None:
        late, early = event("job-1", 1, seconds=5), event("other-1", 1, seconds=1)
        await followed.keep([late])
        await followed.keep([early])
        assert [one async for one in followed.scan(["job", "other"])] == [early, late]
        since = TIME + timedelta(seconds=2)
        assert [one async for one in followed.scan(["job", "other"], since)] == [late]

    async def test_what_arrived_lately_is_found_however_old_it_is(
        self, followed: FollowedLog
    ) -> None:
        before = event("job-1", 1)
        await followed.keep([before])
        since = await later(followed)
        old = [event("job-2", v, seconds=-(10**6)) for v in (1, 2)]
        await followed.keep([before, *old])
        until = await later(followed)
        await later(followed)
        after = event("job-3", 1, seconds=-(10**6))
        await followed.keep([after])
        assert [one async for one in followed.arrived(["job"], since, until)] == old
        assert [one async for one in followed.arrived(["job"], since)] == [*old, after]
        assert len([one async for one in followed.arrived(["job", "none"])]) == 4

    async def test_a_long_stretch_of_arrivals_misses_and_repeats_nothing(
        self, followed: FollowedLog
    ) -> None:
        events = [event(f"job-{n}", 1) for n in range(2500)]
        for start in range(0, 2500, 500):
            await followed.keep(events[start : start + 500])
        found = [one.id async for one in followed.arrived(["job"])]
        assert len(found) == 2500
        assert set(found) == {one.id for one in events}

    async def test_a_category_is_split_for_those_who_share_the_work(
        self, followed: FollowedLog
    ) -> None:
        await followed.keep([event(f"job-{n:03}", 1) for n in range(100)])
        assert len(await followed.split("job", 4)) == 3

    async def test_what_cannot_be_kept_is_refused(self, followed: FollowedLog) -> None:
        with pytest.raises(InvalidMessage):
            await followed.keep([event("job-1", 1, amount=2**64)])
        assert await followed.read("job-1") == []


async def later(followed: FollowedLog) -> datetime:
    """Returns a time, by the log's own clock, at which nothing has arrived yet."""
    await asyncio.sleep(0.005)
    now = followed.now()
    await asyncio.sleep(0.005)
    return now

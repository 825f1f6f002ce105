"""What an event log that is moved promises: its commits in order, copies as they are, the fence.

Subclasses give the fixture `event_log`: open, and empty.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from bus.errors import ConcurrencyError, ConfigurationError, StoreUnavailable
from bus.stores.event_log import EventLog, Outgoing, StoredCommit
from bus.testing.contracts.event_log_contract import TIME, commit, full_commit, until_pending


async def until_confirmed(log: EventLog, ids: Sequence[str]) -> None:
    """Waits until none of these is pending."""
    deadline = time.monotonic() + 10
    while {one.id for one in await log.pending(TIME + timedelta(days=1), 100)} & set(ids):
        assert time.monotonic() < deadline, f"some of {ids} are still pending"
        await asyncio.sleep(0.01)


class MovingContract:
    """Tests an event log as the origin and as the target of a move."""

    async def test_every_commit_is_yielded_in_an_order_that_all_logs_share(
        self, event_log: EventLog
    ) -> None:
        """By time, then by version, then by stream; a character beyond 16 bits is the greatest."""
        streams = ["job-a", "job-Z", "job-\U0001f600", "job-\uffee", "other-a", "job-a/b"]
        late = commit("late", "job-x", time=TIME + timedelta(seconds=5))
        empty = commit("empty", "receipts-1", events=(), result=7)
        sends = commit("sends", "sent-1", events=(), outgoing=(Outgoing("n", "CloseJob", 2, {}),))
        at_once = [commit(f"c{n}", stream) for n, stream in enumerate(streams)]
        for one in [late, empty, sends, *at_once]:
            await event_log.append([one])
        await event_log.confirmed(["empty", "c1"])
        await until_confirmed(event_log, ["empty", "c1"])
        expected = sorted([*at_once, empty, sends], key=lambda one: one.stream)
        found = [stored async for stored in event_log.every()]
        assert [stored.commit for stored in found] == [*expected, late]
        assert {stored.commit.id for stored in found if not stored.pending} == {"empty", "c1"}
        since = [stored.commit async for stored in event_log.every(late.time)]
        assert since == [late]

    async def test_every_commit_of_many_at_one_time_is_yielded_once(
        self, event_log: EventLog
    ) -> None:
        commits = [commit(f"c{n:04}", f"job-{n:04}") for n in range(2500)]
        await event_log.import_commits([StoredCommit(one, False) for one in commits])
        assert [stored.commit async for stored in event_log.every()] == commits

    async def test_copies_are_stored_as_they_were_in_any_order(self, event_log: EventLog) -> None:
        copies = [StoredCommit(full_commit(), True), StoredCommit(commit("b", first=2), False)]
        await event_log.import_commits(copies[::-1])
        await event_log.import_commits(copies)
        await event_log.import_commits([])
        assert await event_log.read("job-1") == [copy.commit for copy in copies]
        assert [stored async for stored in event_log.every()] == copies
        assert await event_log.heads(["job-1"]) == {"job-1": 2}
        assert await event_log.append([commit("full", first=9)]) == [full_commit()]
        with pytest.raises(ConcurrencyError):
            await event_log.append([commit("c", first=2)])

    async def test_a_copys_pending_mark_follows_the_origins(self, event_log: EventLog) -> None:
        one, other = commit("a"), commit("b", "job-2")
        await event_log.import_commits([StoredCommit(one, True), StoredCommit(other, False)])
        await until_pending(event_log, [one])
        await event_log.import_commits([StoredCommit(one, False), StoredCommit(other, True)])
        await until_pending(event_log, [other])

    @pytest.mark.parametrize(
        "changed",
        [
            {"result": 1.0},
            {"result": True},
            {"result": None},
            {"stream": "job-2"},
            {"id": "other"},
            {"correlation_id": "another"},
            {"time": TIME + timedelta(milliseconds=1)},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    async def test_another_commit_in_the_place_of_a_copy_is_an_error(
        self, event_log: EventLog, changed: dict[str, Any]
    ) -> None:
        here = commit("a", result=1)
        await event_log.append([here])
        good = StoredCommit(commit("good", "job-9"), False)
        with pytest.raises(ConfigurationError, match=r"a \(stream job-1, version 1\)"):
            await event_log.import_commits([good, StoredCommit(here._replace(**changed), False)])
        assert await event_log.read("job-1") == [here]

    async def test_behind_a_fence_nothing_is_appended_and_repeats_are_answered(
        self, event_log: EventLog
    ) -> None:
        first = commit("a")
        await event_log.append([first])
        assert await event_log.fenced() == ""
        await event_log.fence("the log went elsewhere")
        await event_log.fence("the log went to the moon")
        assert await event_log.fenced() == "the log went to the moon"
        several = [commit("c", "job-3"), commit("c/2", "job-4")]
        for refused in ([commit("b", "job-2")], several):
            with pytest.raises(StoreUnavailable, match="to the moon"):
                await event_log.append(refused)
        assert await event_log.examine() == "the log went to the moon"
        with pytest.raises(StoreUnavailable, match="to the moon"):
            await event_log.append([commit("b", "job-2")])
        await event_log.confirmed(["a"])
        await until_pending(event_log, [])
        copy = commit("copy", "job-5")
        await event_log.import_commits([StoredCommit(copy, False)])
        assert [stored.commit async for stored in event_log.every()] == [first, copy]
        await event_log.unfence()
        assert await event_log.fenced() == ""
        assert await event_log.examine() is None
        assert await event_log.append(several) is several

    async def test_behind_a_fence_a_repeat_gets_what_was_stored(self, event_log: EventLog) -> None:
        first, several = commit("a"), [commit("b", "job-2"), commit("b/2", "job-3")]
        await event_log.append([first])
        await event_log.append(several)
        await event_log.fence("the log went elsewhere")
        assert await event_log.append([commit("a", first=2)]) == [first]
        assert await event_log.append([commit("b", "job-8"), commit("b/2", "job-9")]) == several

    async def test_of_many_around_a_fence_each_is_stored_or_refused(
        self, event_log: EventLog
    ) -> None:
        async def tried(number: int) -> bool:
            await asyncio.sleep(number % 20 / 100)
            try:
                await event_log.append([commit(f"c{number}", f"job-{number}")])
            except StoreUnavailable:
                return False
            return True

        trying = [asyncio.create_task(tried(number)) for number in range(400)]
        await asyncio.sleep(0.1)
        await event_log.fence("the log went elsewhere")
        behind = {stored.commit.id async for stored in event_log.every()}
        stored = await asyncio.gather(*trying)
        assert {f"c{number}" for number, is_stored in enumerate(stored) if is_stored} == behind
        assert {copy.commit.id async for copy in event_log.every()} == behind

"""What every event log promises, and in a class of its own what it promises of states. Subclasses
give the fixture `event_log`: open, and empty."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from bus.common import clock
from bus.errors import ConcurrencyError, InvalidMessage
from bus.stores.event_log import Backlog, Commit, EventCount, EventLog, Outgoing, Recorded, Snapshot

TIME = clock.now()


def commit(id: str, stream: str = "job-1", first: int = 1, count: int = 1, **fields: Any) -> Commit:
    """Returns a commit of `count` events; `fields` replace its defaults."""
    events = tuple(Recorded("JobPosted", 1, {"version": first + n}) for n in range(count))
    given: dict[str, Any] = {"category": stream.partition("-")[0], "events": events}
    given |= {"time": TIME, "correlation_id": "conversation"}
    return Commit(id=id, stream=stream, first=first, **(given | fields))


def full_commit() -> Commit:
    """Returns a commit that uses every field."""
    return commit(
        "full",
        events=(
            Recorded("JobPosted", 3, {"title": "Cook", "pay": [1, 2.5, None, {"$a.b": True}]}),
        ),
        causation_id="cause",
        headers={"traceparent": "00-1-2-01"},
        outgoing=(Outgoing("next", "CloseJob", 2, {"id": "1"}),),
        result={"id": "job-1", "numbers": [2**63 - 1]},
    )


async def seconds_apart(log: EventLog, *commits: Commit) -> list[Commit]:
    """Appends commits, each dated a second after the one before; returns them as appended."""
    appended = []
    for number, given in enumerate(commits):
        appended.append(given._replace(time=TIME + timedelta(seconds=number)))
        await log.append([appended[-1]])
    return appended


async def outcome(log: EventLog, commits: Sequence[Commit]) -> str:
    """Appends, and returns the outcome in words."""
    try:
        stored = await log.append(commits)
    except (ConcurrencyError, InvalidMessage) as error:
        return type(error).__name__
    return "stored" if stored is commits else f"repeat of {stored[0].events[0].data}"


async def until_pending(log: EventLog, expected: Sequence[Commit]) -> None:
    """Waits until these are pending, because confirming need not show at once."""
    deadline = time.monotonic() + 10
    while (found := await log.pending(TIME + timedelta(days=1), 10)) != list(expected):
        assert time.monotonic() < deadline, f"{found} instead of {expected} are pending"
        await asyncio.sleep(0.01)


async def next_of(following: AsyncIterator[Commit], count: int) -> list[Commit]:
    """Returns the next `count` commits that a follower gets."""
    async with asyncio.timeout(30):
        return [await anext(following) for _ in range(count)]


async def events_of(log: EventLog, stream: str, after: int = 0) -> list[tuple[int, Recorded]]:
    return [event async for page in log.events(stream, after) for event in page]


class EventLogContract:
    """Tests an event log: appending, reading, scanning, pending. Supply the fixture `event_log`."""

    async def test_what_was_appended_is_read_as_it_was(self, event_log: EventLog) -> None:
        commits = [full_commit()]
        assert await event_log.append(commits) is commits
        assert await event_log.read("job-1") == commits
        assert await event_log.find("full") == commits

    async def test_a_stream_never_written_is_empty(self, event_log: EventLog) -> None:
        assert await event_log.read("job-1") == []
        assert await event_log.find("nothing") == []

    async def test_a_taken_place_is_a_conflict(self, event_log: EventLog) -> None:
        first = commit("a")
        await event_log.append([first])
        with pytest.raises(ConcurrencyError):
            await event_log.append([commit("b")])
        assert await event_log.read("job-1") == [first]

    async def test_a_repeat_writes_nothing_and_gets_what_was_stored(
        self, event_log: EventLog
    ) -> None:
        first = commit("a", result="first")
        await event_log.append([first])
        again = [commit("a", first=2, result="again")]
        assert await event_log.append(again) == [first]
        assert await event_log.read("job-1") == [first]

    async def test_of_many_at_once_each_gets_its_own_outcome(self, event_log: EventLog) -> None:
        await event_log.append([commit("old", "old-1")])
        await event_log.append([commit("taken", "taken-1")])
        kinds = {
            "stored": [commit(f"new{n}", f"new-{n}") for n in range(80)],
            "repeat of {'version': 1}": [commit("old", f"other-{n}", 7) for n in range(40)],
            "ConcurrencyError": [commit(f"late{n}", "taken-1") for n in range(40)],
            "InvalidMessage": [commit(f"big{n}", f"big-{n}", result=2**64) for n in range(40)],
        }
        mixed = [(kind, one) for kind, commits in kinds.items() for one in commits]
        mixed.sort(key=lambda pair: pair[1].id[::-1])
        got = await asyncio.gather(*[outcome(event_log, [one]) for _, one in mixed])
        assert got == [kind for kind, _ in mixed]
        for one in kinds["stored"]:
            assert await event_log.read(one.stream) == [one]
        assert await event_log.read("big-1") == []

    async def test_of_many_for_one_place_exactly_one_wins(self, event_log: EventLog) -> None:
        tries = [outcome(event_log, [commit(f"c{n}")]) for n in range(50)]
        got = await asyncio.gather(*tries)
        assert sorted(got) == ["ConcurrencyError"] * 49 + ["stored"]
        (winner,) = await event_log.read("job-1")
        assert got[int(winner.id[1:])] == "stored"

    async def test_of_many_with_one_id_one_is_stored(self, event_log: EventLog) -> None:
        commits = [commit("a", f"job-{n}", events=()) for n in range(20)]
        stored = await asyncio.gather(*[event_log.append([one]) for one in commits])
        assert len({one.stream for (one,) in stored}) == 1

    async def test_several_streams_are_stored_together(self, event_log: EventLog) -> None:
        commits = [commit("a", "job-1", result=7), commit("a/2", "job-2"), commit("a/3", "job-3")]
        assert await event_log.append(commits) is commits
        assert await event_log.find("a") == commits
        assert await event_log.append([commit("a", "job-9"), commit("a/2", "job-8")]) == commits
        assert await event_log.append([commit("a", "job-9")]) == commits

    async def test_several_streams_are_stored_all_or_none(self, event_log: EventLog) -> None:
        await event_log.append([commit("taken", "job-2")])
        with pytest.raises(ConcurrencyError):
            await event_log.append([commit("a", "job-1"), commit("a/2", "job-2")])
        with pytest.raises(InvalidMessage):
            await event_log.append([commit("b"), commit("b/2", "job-3", result=2**64)])
        assert await event_log.read("job-1") == []
        assert await event_log.find("a") == []

    async def test_many_transactions_at_once_over_the_same_streams(
        self, event_log: EventLog
    ) -> None:
        def pair(n: int) -> list[Commit]:
            streams = ["job-1", "job-2"] if n % 2 else ["job-2", "job-1"]
            return [commit(f"c{n}", streams[0]), commit(f"c{n}/2", streams[1])]

        got = await asyncio.gather(*[outcome(event_log, pair(n)) for n in range(20)])
        assert sorted(got) == ["ConcurrencyError"] * 19 + ["stored"]
        (one,), (two,) = await event_log.read("job-1"), await event_log.read("job-2")
        assert one.id.partition("/")[0] == two.id.partition("/")[0]

    async def test_find_takes_no_other_command_for_this_one(self, event_log: EventLog) -> None:
        commits = [commit("a" if n == 1 else f"a/{n}", f"job-{n}") for n in range(1, 13)]
        await event_log.append(commits)
        for n, other in enumerate(("aa", "a0", "a/x", "a/2/2")):
            await event_log.append([commit(other, f"other-{n}")])
        assert await event_log.find("a") == commits

    async def test_reading_from_within_a_commit_includes_it(self, event_log: EventLog) -> None:
        one, three, two = commit("a"), commit("b", first=2, count=3), commit("c", first=5, count=2)
        for each in (one, three, two):
            await event_log.append([each])
        expected = [
            [one, three, two], [three, two], [three, two], [three, two], [two], [two], [], [],
        ]  # fmt: skip
        assert [await event_log.read("job-1", after) for after in range(8)] == expected

    async def test_events_are_those_beyond_a_version_wherever_commits_begin(
        self, event_log: EventLog
    ) -> None:
        for each in (commit("a"), commit("b", first=2, count=3), commit("c", first=5, count=2)):
            await event_log.append([each])
        commits = await event_log.read("job-1")
        events = [(n, event) for c in commits for n, event in enumerate(c.events, c.first)]
        assert [version for version, _ in events] == [1, 2, 3, 4, 5, 6]
        for after in range(8):
            assert await events_of(event_log, "job-1", after) == events[after:]
        assert await events_of(event_log, "job-2") == []

    async def test_the_events_of_a_long_stream_come_page_by_page(self, event_log: EventLog) -> None:
        commits = [commit(f"c{n}", first=n) for n in range(1, 1001)]
        for start in range(0, len(commits), 500):
            await asyncio.gather(*[event_log.append([one]) for one in commits[start : start + 500]])
        events = [(c.first, c.events[0]) for c in commits]
        assert await events_of(event_log, "job-1", 0) == events
        assert await events_of(event_log, "job-1", 599) == events[599:]

    async def test_loads_that_come_together_get_each_its_own_events(
        self, event_log: EventLog
    ) -> None:
        """Long, short and unknown streams, some requested twice, some cancelled."""
        lengths = {f"job-{n}": 700 if n in (3, 11) else n % 7 for n in range(40)}
        commits = [
            commit(f"{stream}/{n}", stream, first=n)
            for stream, length in lengths.items()
            for n in range(1, length + 1)
        ]
        for start in range(0, len(commits), 500):
            await asyncio.gather(*[event_log.append([one]) for one in commits[start : start + 500]])
        streams = [*lengths, "job-3", "job-5", "job-5"]
        given_up = [asyncio.ensure_future(events_of(event_log, "job-6")) for _ in range(3)]
        loads = [asyncio.ensure_future(events_of(event_log, stream)) for stream in streams]
        await asyncio.sleep(0)
        for load in given_up:
            load.cancel()
        for stream, events in zip(streams, await asyncio.gather(*loads), strict=True):
            assert [version for version, _ in events] == [*range(1, lengths[stream] + 1)]
            assert all(event.data == {"version": version} for version, event in events)
        assert len({id(load.result()[0][1].data) for load in loads[-2:]}) == 2
        after = {
            stream: number % 5 * (100 if length > 500 else 1)
            for number, (stream, length) in enumerate(lengths.items())
        }
        tails = await asyncio.gather(*[events_of(event_log, s, after[s]) for s in lengths])
        for (stream, length), tail in zip(lengths.items(), tails, strict=True):
            assert [version for version, _ in tail] == [*range(after[stream] + 1, length + 1)]

    async def test_a_limit_counts_commits(self, event_log: EventLog) -> None:
        commits = [commit(f"c{n}", first=2 * n + 1, count=2) for n in range(6)]
        for each in commits:
            await event_log.append([each])
        assert await event_log.read("job-1", limit=2) == commits[:2]
        assert await event_log.read("job-1", after=3, limit=2) == commits[1:3]
        assert await event_log.read("job-1", after=4, limit=2) == commits[2:4]

    async def test_a_stream_is_read_by_version_whatever_order_it_came_in(
        self, event_log: EventLog
    ) -> None:
        commits = [commit(f"c{n}", first=n) for n in range(1, 13)]
        await asyncio.gather(*[event_log.append([one]) for one in commits[::-1]])
        assert await event_log.read("job-1") == commits

    @pytest.mark.parametrize(
        "wrong",
        [2**63, {"a": [-(2**63) - 1]}, "\ud800", {"a\0b": 1}, "x" * 16_000_000],
        ids=["integer", "nested integer", "surrogate", "key", "size"],
    )
    async def test_what_cannot_be_kept_is_refused_alone(
        self, event_log: EventLog, wrong: object
    ) -> None:
        good = [commit(f"good{n}", f"good-{n}") for n in range(20)]
        bad = commit("bad", "bad-1", result=wrong)
        got = await asyncio.gather(*[outcome(event_log, [one]) for one in (*good, bad, *good[:0])])
        assert got == ["stored"] * 20 + ["InvalidMessage"]
        assert await event_log.read("bad-1") == []

    async def test_what_is_stored_is_nobodys_object(self, event_log: EventLog) -> None:
        data: dict[str, Any] = {"list": [1]}
        await event_log.append([commit("a", events=(Recorded("JobPosted", 1, data),))])
        data["list"].append(2)
        (stored,) = await event_log.read("job-1")
        stored.events[0].data["list"].append(3)
        (stored,) = await event_log.read("job-1")
        assert stored.events[0].data == {"list": [1]}

    async def test_a_cancelled_caller_disturbs_nobody(self, event_log: EventLog) -> None:
        appends = [
            asyncio.ensure_future(event_log.append([commit(f"c{n}", f"job-{n}")]))
            for n in range(30)
        ]
        await asyncio.sleep(0)
        for append in appends[::3]:
            append.cancel()
        got = await asyncio.gather(*appends, return_exceptions=True)
        failed = [result for result in got if isinstance(result, Exception)]
        assert failed == []
        for n, result in enumerate(got):
            if not isinstance(result, BaseException):
                assert await event_log.read(f"job-{n}") == list(result)

    async def test_a_scan_is_ordered_by_time_and_then_by_version(self, event_log: EventLog) -> None:
        a, b, c = commit("a", "job-1"), commit("b", "other-1"), commit("c", "job-2")
        a, b, c = await seconds_apart(event_log, a, b, c)
        same = [commit(f"s{n}", "job-3", n, time=c.time) for n in (3, 2, 4)]
        for each in same:
            await event_log.append([each])
        await event_log.append([commit("empty", "job-9", events=())])
        scanned = [one async for one in event_log.scan(["job"])]
        assert scanned == [a, c, same[1], same[0], same[2]]
        later = [one.id async for one in event_log.scan(["other", "job"], b.time)]
        assert later == ["b", "c", "s2", "s3", "s4"]
        assert [one async for one in event_log.scan(["none"])] == []

    async def test_a_long_scan_misses_and_repeats_nothing(self, event_log: EventLog) -> None:
        """Many commits have the same time, and pages end between commits of the same time."""
        commits = [
            commit(
                f"c{n}",
                f"{'job' if n % 2 else 'other'}-{n // 6}",
                first=n // 2 % 3 + 1,
                time=TIME + timedelta(milliseconds=n // 1800),
            )
            for n in range(2500)
        ]
        await asyncio.gather(*[event_log.append([one]) for one in commits])
        scanned = [found async for found in event_log.scan(["job", "other", "none"])]
        assert [(c.time, c.first) for c in scanned] == sorted((c.time, c.first) for c in commits)
        assert {c.id for c in scanned} == {c.id for c in commits}

    async def test_a_category_is_scanned_stream_by_stream(self, event_log: EventLog) -> None:
        """From beyond one stream to another, over pages, in order, and of no other category."""
        streams = [f"job-{n:03}" for n in range(700)]
        commits = [commit(f"{s}/{n}", s, first=n) for s in streams for n in (1, 2, 3)]
        others = [commit(f"x{n}", s) for n, s in enumerate(("jo-1", "jobs-1", "job", "job.1"))]
        await asyncio.gather(*[event_log.append([one]) for one in (*reversed(commits), *others)])
        await event_log.append([commit("empty", "job-999", events=())])

        async def scanned(after: str = "", until: str = "") -> list[Commit]:
            pages = event_log.scan_streams("job", after, until)
            return [one async for page in pages for one in page]

        assert await scanned() == commits
        assert await scanned("job-500") == commits[3 * 501 :]
        assert await scanned("job-009", "job-010") == commits[30:33]
        assert 0 <= await event_log.count(["job"]) - len(commits) <= 2

    async def test_a_category_is_split_into_about_equal_parts(self, event_log: EventLog) -> None:
        assert await event_log.split("job", 4) == []
        commits = [commit(f"c{n}", f"job-{n:03}") for n in range(200)]
        await asyncio.gather(*[event_log.append([one]) for one in commits])
        ends = ["", *await event_log.split("job", 4), ""]
        assert len(ends) == 5
        for after, until in itertools.pairwise(ends):
            pages = event_log.scan_streams("job", after, until)
            assert 40 <= len([one async for page in pages for one in page]) <= 60

    async def test_a_tally_counts_events_by_category_and_name(self, event_log: EventLog) -> None:
        a, b, c = (Recorded(name, 1, {}) for name in "ABC")
        first, second, _ = await seconds_apart(
            event_log,
            commit("1", events=(a, b, a)),
            commit("2", first=4, events=(c, a)),
            commit("3", "order-1", events=(b,)),
        )
        await event_log.append([commit("4", "job-2", events=())])
        counts = await event_log.tally()
        assert [(count.category, count.name, count.count) for count in counts] == [
            ("job", "A", 3), ("job", "B", 1), ("job", "C", 1), ("order", "B", 1),
        ]  # fmt: skip
        assert (counts[0].first, counts[0].last) == (first.time, second.time)
        assert (counts[0].stream, counts[0].version) in [("job-1", 1), ("job-1", 3), ("job-1", 5)]
        assert await event_log.tally(["A", "B"]) == [
            EventCount(
                name="C",
                category="job",
                count=1,
                first=second.time,
                last=second.time,
                stream="job-1",
                version=4,
            )
        ]
        assert await event_log.tally("ABC") == []

    async def test_the_log_tells_its_categories(self, event_log: EventLog) -> None:
        assert await event_log.categories() == []
        for id, stream in (("1", "job-1"), ("2", "account-1"), ("3", "job-2")):
            await event_log.append([commit(id, stream)])
        assert await event_log.categories() == ["account", "job"]

    async def test_commits_that_send_commands_are_scanned_from_a_time_on(
        self, event_log: EventLog
    ) -> None:
        sends: dict[str, Any] = {"outgoing": (Outgoing("next", "CloseJob", 2, {"id": "1"}),)}
        one, _, two, three = await seconds_apart(
            event_log,
            commit("a", **sends),
            commit("b", "job-2"),
            commit("c", "order-1", events=(), **sends),
            commit("d", "job-3", **sends),
        )
        assert [found async for found in event_log.sending(one.time)] == [one, two, three]
        assert [found async for found in event_log.sending(two.time)] == [two, three]

    async def test_a_conversation_is_all_that_has_its_correlation_id(
        self, event_log: EventLog
    ) -> None:
        own: dict[str, Any] = {"correlation_id": "talk"}
        one, _, two, three = await seconds_apart(
            event_log,
            commit("a", **own),
            commit("b", "job-2"),
            commit("c", "order-1", **own),
            commit("d", "job-3", events=(), outgoing=(Outgoing("e", "E", 1, {}),), **own),
        )
        assert await event_log.conversation("talk") == [one, two, three]
        assert await event_log.conversation("talk", two.time) == [two, three]
        assert await event_log.conversation("none") == []
        assert await event_log.conversation("none", one.time) == []

    async def test_a_follower_gets_the_last_commits_and_then_each_one_as_it_is_stored(
        self, event_log: EventLog
    ) -> None:
        old = await seconds_apart(event_log, *(commit(f"o{n}", f"job-{n}") for n in range(5)))
        await event_log.append([commit("kept", "job-9", events=(), time=old[-1].time)])
        async with aclosing(event_log.follow(3)) as following:
            assert await next_of(following, 3) == old[2:]
            new = [commit(f"n{n}", f"{'job' if n % 2 else 'order'}-n{n}") for n in range(40)]
            nothing = commit("none", "job-10", events=())
            for one in (*new[:20], nothing, *new[20:]):  # their times are before those of the old
                await event_log.append([one])
            assert await next_of(following, 40) == new

    async def test_a_follower_that_begins_while_commits_are_stored_misses_and_repeats_none(
        self, event_log: EventLog
    ) -> None:
        commits = [
            commit(f"c{n}", f"{'job' if n % 2 else 'order'}-{n}", time=TIME + timedelta(seconds=n))
            for n in range(200)
        ]

        async def append() -> None:
            for one in commits:
                await event_log.append([one])
                await asyncio.sleep(0)

        async with aclosing(event_log.follow(1000, ["order"])) as following:
            appending = asyncio.ensure_future(append())
            assert await next_of(following, 100) == commits[::2]
            await appending

    async def test_commits_are_pending_until_confirmed(self, event_log: EventLog) -> None:
        a, b, c = await seconds_apart(
            event_log, commit("a"), commit("b", "job-2"), commit("c", "job-3")
        )
        assert await event_log.pending(c.time, 10) == [a, b]
        assert await event_log.pending(c.time, 1) == [a]
        assert await event_log.pending(c.time, 10, since=b.time) == [b]
        await event_log.confirmed(["a", "c"])
        await until_pending(event_log, [b])
        assert await event_log.read("job-1") == [a]
        await event_log.confirmed([])

    async def test_what_is_not_confirmed_is_counted_up_to_a_limit(
        self, event_log: EventLog
    ) -> None:
        assert await event_log.backlog() == Backlog(0, None)
        a, b, c = await seconds_apart(
            event_log, commit("a"), commit("b", "job-2"), commit("c", "job-3")
        )
        assert await event_log.backlog() == Backlog(3, a.time)
        assert await event_log.backlog(most=2) == Backlog(2, a.time)
        await event_log.confirmed([a.id, c.id])
        await until_pending(event_log, [b])
        assert await event_log.backlog() == Backlog(1, b.time)

    async def test_what_is_stored_is_settled(self, event_log: EventLog) -> None:
        stored = commit("a", time=event_log.now())
        await event_log.append([stored])
        assert stored.time <= await event_log.settled() <= event_log.now()

    async def test_what_is_held_is_told_by_ids_and_by_streams(self, event_log: EventLog) -> None:
        assert await event_log.newest() == ""
        assert await event_log.held(["a"]) == set()
        await event_log.append([commit("a", "job-1", count=2)])
        await event_log.append([commit("b", "job-1", 3)])
        await event_log.append([commit("c", "job-2", time=TIME - timedelta(days=1))])
        assert await event_log.newest() == "c"
        assert await event_log.held(["a", "c", "d"]) == {"a", "c"}
        assert await event_log.heads(["job-1", "job-2", "job-3"]) == {"job-1": 3, "job-2": 1}

    async def test_snapshots_are_forgotten_and_a_whole_log_has_no_problem(
        self, event_log: EventLog
    ) -> None:
        await event_log.save_snapshot(Snapshot("job-1", 3, "shape", {}))
        await event_log.save_state(Snapshot("job-1", 3, "1", {}))
        await event_log.forget_snapshots()
        assert await event_log.snapshot("job-1") is None
        assert await event_log.state("job-1") is not None
        assert await event_log.examine() is None

    async def test_the_newest_snapshot_stays(self, event_log: EventLog) -> None:
        assert await event_log.snapshot("job-1") is None
        new, old = Snapshot("job-1", 20, "s", {"a": [1]}), Snapshot("job-1", 10, "s", {})
        for each in (old, new, old, new._replace(state={"other": 1})):
            await event_log.save_snapshot(each)
        assert await event_log.snapshot("job-1") == new
        assert await event_log.snapshot("job-2") is None

    async def test_snapshots_that_are_asked_for_together_are_each_the_right_one(
        self, event_log: EventLog
    ) -> None:
        kept = [Snapshot(f"job-{n}", n, "s1", {"count": n}) for n in range(1, 30)]
        await asyncio.gather(*map(event_log.save_snapshot, kept))
        streams = [*(snapshot.stream for snapshot in kept), "job-unknown", "job-1", "job-1"]
        found = await asyncio.gather(*map(event_log.snapshot, streams))
        assert found == [*kept, None, kept[0], kept[0]]
        assert len({id(snapshot.state) for snapshot in found[-2:] if snapshot}) == 2

    async def test_closing_waits_for_what_was_begun(self, event_log: EventLog) -> None:
        append = asyncio.ensure_future(event_log.append([commit("a")]))
        await asyncio.sleep(0)
        await event_log.close()
        assert append.done()
        assert len(await append) == 1

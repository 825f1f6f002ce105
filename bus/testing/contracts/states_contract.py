"""What every event log promises of states, which are stored beside commits.

Subclasses give the fixture `event_log`: open, and empty.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bus.errors import ConcurrencyError, InvalidMessage
from bus.stores.event_log import Commit, EventLog, Snapshot
from bus.testing.contracts.event_log_contract import (
    commit,
    outcome,
)


def state(stream: str, version: int, shape: str = "1", **fields: Any) -> Snapshot:
    return Snapshot(stream, version, shape, fields)


def with_state(first: int, stream: str = "job-1", **fields: Any) -> Commit:
    """Returns a commit of one event, with the state of its stream."""
    kept = state(stream, first, **(fields or {"status": "open"}))
    return commit(f"{stream}:{first}", stream, first, state=kept)


LONG = "x" * 5000
SAME: dict[str, Sequence[Any]] = {
    "one": [1, 1.0],
    "true": [True],
    "zero": [0, 0.0, -0.0],
    "false": [False],
    "half": [0.5],
    "two to the 53": [2**53, 2.0**53],
    "one more": [2**53 + 1],
    "largest": [2**63 - 1],
    "as a float": [2.0**63],
    "least": [-(2**63), -(2.0**63)],
    "huge": [1e300],
    "tiny": [5e-324],
    "text of one": ["1"],
    "text of a float": ["1.0"],
    "empty": [""],
    "space": [" "],
    "letter": ["a"],
    "capital": ["A"],
    "padded": ["a "],
    "with a zero": ["a\0"],
    "accent": ["\u00e9"],
    "accent in two": ["e\u0301"],
    "four bytes": ["\U0001f600"],
    "another of four": ["\U0001f601"],
    "long": [LONG],
    "long, and differs at its end": [f"{LONG[:-1]}y"],
    "a time": ["2026-11-30T05:00:00Z"],
    "the same time": ["2026-11-30T06:00:00+01:00"],
    "a decimal": ["1.50"],
    "as it is named inside": ["null", "flag True", "number 1"],
    "a name": ["$a"],
}
"""Values of a field: those under one name are equal, and equal nothing else."""


class StatesContract:
    """Tests the states that an event log stores with commits. Supply the fixture `event_log`."""

    @pytest.fixture(autouse=True)
    async def prepared(self, event_log: EventLog) -> None:
        await event_log.prepare_states("job", ["status", "owner"])

    async def test_a_state_is_stored_with_its_commit(self, event_log: EventLog) -> None:
        assert await event_log.state("job-1") is None
        fields: dict[str, Any] = {
            "status": "open",
            "nested": {"list": [1, 2.5, None, True, {"a.b": "é"}]},
            "large": 2**63 - 1,
        }
        commits = [with_state(1, **fields)]
        assert await event_log.append(commits) is commits
        assert await event_log.state("job-1") == state("job-1", 1, **fields)
        assert await event_log.read("job-1") == commits
        (read,) = await event_log.read("job-1")
        assert read.state is None
        await event_log.append([with_state(2, status="closed")])
        assert await event_log.state("job-1") == state("job-1", 2, status="closed")

    async def test_a_state_is_nobodys_object(self, event_log: EventLog) -> None:
        given = with_state(1, tags=["a"])
        await event_log.append([given])
        found = await event_log.state("job-1")
        assert given.state
        assert found
        given.state.state["tags"].append("b")
        found.state["tags"].append("c")
        assert await event_log.state("job-1") == state("job-1", 1, tags=["a"])

    async def test_a_conflict_and_a_repeat_leave_the_state_as_it_is(
        self, event_log: EventLog
    ) -> None:
        await event_log.append([with_state(1)])
        with pytest.raises(ConcurrencyError):
            await event_log.append([with_state(1, status="other")._replace(id="other")])
        again = commit("job-1:1", first=2, state=state("job-1", 2, status="again"))
        assert await event_log.append([again]) == [with_state(1)]
        assert await event_log.state("job-1") == state("job-1", 1, status="open")

    @pytest.mark.parametrize("version", [2, 3, 9])
    async def test_a_state_that_is_not_older_is_a_conflict(
        self, event_log: EventLog, version: int
    ) -> None:
        await event_log.append([commit("a")])
        await event_log.save_state(state("job-1", version, status="of another log"))
        with pytest.raises(ConcurrencyError, match="bus aggregates check"):
            await event_log.append([with_state(2)])
        assert len(await event_log.read("job-1")) == 1
        assert await event_log.state("job-1") == state("job-1", version, status="of another log")

    async def test_a_state_that_is_behind_is_replaced(self, event_log: EventLog) -> None:
        for one in (with_state(1), commit("other", first=2), with_state(3, status="closed")):
            await event_log.append([one])
        assert await event_log.state("job-1") == state("job-1", 3, status="closed")

    async def test_states_of_several_streams_are_stored_all_or_none(
        self, event_log: EventLog
    ) -> None:
        await event_log.append([with_state(1, "job-2")])
        lost = with_state(1, "job-2", status="lost")._replace(id="a/2")
        both = [with_state(1)._replace(id="a"), lost]
        with pytest.raises(ConcurrencyError):
            await event_log.append(both)
        assert await event_log.state("job-1") is None
        assert await event_log.state("job-2") == state("job-2", 1, status="open")
        three = [
            with_state(1)._replace(id="b"),
            with_state(2, "job-2", status="closed")._replace(id="b/2"),
            commit("b/3", "order-1"),
        ]
        assert await event_log.append(three) is three
        assert await event_log.find("b") == three
        assert await event_log.append(three) == three
        assert await event_log.state("job-2") == state("job-2", 2, status="closed")

    async def test_of_many_for_one_state_exactly_one_wins(self, event_log: EventLog) -> None:
        commits = [with_state(1, status=f"by {n}")._replace(id=f"c{n}") for n in range(20)]
        got = await asyncio.gather(*[outcome(event_log, [one]) for one in commits])
        assert sorted(got) == ["ConcurrencyError"] * 19 + ["stored"]
        assert await event_log.state("job-1") == commits[got.index("stored")].state

    async def test_states_and_commits_without_them_come_together(self, event_log: EventLog) -> None:
        commits = [
            with_state(1, f"job-{n}", status=str(n)) if n % 2 else commit(f"c{n}", f"job-{n}")
            for n in range(60)
        ]
        await asyncio.gather(*[event_log.append([one]) for one in commits])
        found = await asyncio.gather(*[event_log.state(one.stream) for one in commits])
        assert found == [one.state for one in commits]
        assert len({id(one) for one in found if one}) == 30

    async def test_of_very_many_appends_each_gets_its_turn(self, event_log: EventLog) -> None:
        async def several(first: int) -> None:
            for number in range(first, first + 10):
                await event_log.append([with_state(1, f"job-{number}")])

        await asyncio.gather(*[several(10 * n) for n in range(60)])
        assert len(await event_log.states("job", {"status": "open"}, 1000)) == 600

    async def test_each_of_many_appends_gets_its_own_outcome(self, event_log: EventLog) -> None:
        await event_log.append([with_state(1, "job-taken")])
        await event_log.append([with_state(1, "job-newer")])
        await event_log.save_state(state("job-newer", 9))
        await event_log.append([with_state(1, "job-repeated")])
        good = [with_state(1, f"job-{n}", status=str(n)) for n in range(40)]
        bad = {
            "ConcurrencyError": [
                with_state(1, "job-taken", status="lost")._replace(id="lost"),
                with_state(2, "job-newer", status="lost"),
            ],
            "InvalidMessage": [with_state(1, "job-wrong", wrong=2**63)],
            "repeat": [commit("job-repeated:1", first=2, state=state("job-1", 2, status="again"))],
        }
        mixed = [*good[:13], *bad["ConcurrencyError"], *good[13:17], *bad["InvalidMessage"]]
        mixed += [*good[17:30], *bad["repeat"], *good[30:]]
        got = await asyncio.gather(*[outcome(event_log, [one]) for one in mixed])
        expected = {one.id: what for what, commits in bad.items() for one in commits}
        kinds = [kind.partition(" of ")[0] for kind in got]
        assert kinds == [expected.get(one.id, "stored") for one in mixed]
        assert [await event_log.state(one.stream) for one in good] == [one.state for one in good]
        assert len(await event_log.commits([one.id for one in mixed])) == 41
        assert await event_log.state("job-taken") == state("job-taken", 1, status="open")
        assert await event_log.read("job-wrong") == []

    @pytest.mark.parametrize(
        "wrong",
        [2**63, "\ud800", {"a\0b": 1}, "x" * 16_000_000],
        ids=["integer", "surrogate", "key", "size"],
    )
    async def test_a_state_that_cannot_be_kept_is_refused_with_its_commit(
        self, event_log: EventLog, wrong: object
    ) -> None:
        with pytest.raises(InvalidMessage):
            await event_log.append([with_state(1, wrong=wrong)])
        with pytest.raises(InvalidMessage):
            await event_log.save_state(state("job-1", 1, wrong=wrong))
        assert await event_log.read("job-1") == []
        assert await event_log.state("job-1") is None

    async def test_a_state_of_many_megabytes_is_stored(self, event_log: EventLog) -> None:
        large = with_state(1, text="x" * 14_000_000)
        await event_log.append([large])
        await event_log.append([with_state(2, text="y" * 14_000_000)])
        assert await event_log.state("job-1") == state("job-1", 2, text="y" * 14_000_000)

    async def test_a_state_that_is_saved_takes_the_place_of_one_that_is_not_newer(
        self, event_log: EventLog
    ) -> None:
        new, old = state("job-1", 20, status="new"), state("job-1", 10, status="old")
        for each in (old, new, old):
            await event_log.save_state(each)
        assert await event_log.state("job-1") == new
        same = state("job-1", 20, "2", phase="new")
        await event_log.save_state(same)
        assert await event_log.state("job-1") == same

    async def test_states_are_found_by_their_fields(self, event_log: EventLog) -> None:
        kept = [
            state("job-1", 1, status="open", owner=None, count=1, paid=True, pay=1.5),
            state("job-2", 1, status="open", owner="Ada", count=2, paid=False, pay=2),
            state("job-3", 1, status="closed", owner=None, count=2**40, paid=True, pay=None),
            state("jobs-1", 1, status="open", owner=None, count=1, paid=True, pay=1.5),
        ]
        for each in kept:
            await event_log.save_state(each)

        async def found(**fields: Any) -> list[str]:
            return [one.stream for one in await event_log.states("job", fields, 10)]

        assert await found(status="open") == ["job-1", "job-2"]
        assert await found(status="open", owner=None) == ["job-1"]
        assert await found(status="open", owner="Ada") == ["job-2"]
        assert await found(owner=None) == ["job-1", "job-3"]
        assert await found(count=2**40) == ["job-3"]
        assert await found(paid=True, count=1) == ["job-1"]
        assert await found(pay=1.5) == ["job-1"]
        assert await found(pay=None) == ["job-3"]
        assert await found(status="Open") == []
        assert await found(status="$open") == []
        assert await event_log.states("job", {"status": "closed"}, 10) == [kept[2]]
        assert len(await event_log.states("job", {"status": "open"}, 1)) == 1
        assert await event_log.states("none", {"status": "open"}, 10) == []

    async def test_what_equals_a_value_is_found_and_nothing_else(self, event_log: EventLog) -> None:
        kept = {f"job-{name} {n}": value for name in SAME for n, value in enumerate(SAME[name])} | {
            f"job-in a list {n}": [value, "z"] for n, (value, *_) in enumerate(SAME.values())
        }
        kept |= {"job-none": None, "job-list": [], "job-none in a list": ["b", None]}
        kept |= {"job-deep": [["a", 1], {"a": 1}], "job-object": {"status": "a"}}
        states = [state(stream, 1, status=value) for stream, value in kept.items()]
        await asyncio.gather(*map(event_log.save_state, [*states, state("job-absent", 1, owner=1)]))

        async def found(value: Any) -> set[str]:
            limit = len(kept) + 1
            return {one.stream for one in await event_log.states("job", {"status": value}, limit)}

        for number, (name, values) in enumerate(SAME.items()):
            equal = {f"job-in a list {number}"} | {f"job-{name} {n}" for n in range(len(values))}
            if name == "as it is named inside":
                assert [len(await found(value)) for value in values] == [2, 1, 1]
                continue
            for value in values:
                assert await found(value) == equal, value
        assert await found(None) == {"job-none", "job-absent", "job-none in a list"}
        assert len(await found("z")) == len(SAME)
        assert await found("b") == {"job-none in a list"}

    async def test_a_state_is_found_by_what_it_is_now(self, event_log: EventLog) -> None:
        async def found(**fields: Any) -> list[str]:
            return [one.stream for one in await event_log.states("job", fields, 10)]

        await event_log.append([with_state(1, status="open", owner="Ada", pay=1)])
        await event_log.append([with_state(1, "job-2", status="open", owner="Bob", pay=1)])
        await event_log.append([with_state(2, status="open", owner="Bob", pay=1)])
        assert await found(owner="Ada") == []
        assert await found(owner="Bob") == ["job-1", "job-2"]
        assert await found(owner="Bob", status="open", pay=1) == ["job-1", "job-2"]
        assert await found(owner="Bob", pay=2) == []
        await event_log.append([with_state(3, status=["open", "new"], pay=2)])
        assert await found(owner="Bob") == ["job-2"]
        assert await found(owner=None, status="new") == ["job-1"]
        await event_log.save_state(state("job-1", 3, "2", status="closed", owner="Ada"))
        assert await found(status="closed", owner="Ada") == ["job-1"]
        assert await found(status="open") == ["job-2"]
        with pytest.raises(ConcurrencyError):
            await event_log.append([with_state(2, status="lost")._replace(id="other")])
        assert await found(status="lost") == []

    async def test_a_state_with_many_values_in_a_list_is_found_by_each(
        self, event_log: EventLog
    ) -> None:
        many = [f"tag {n}" for n in range(1000)]
        await event_log.append([with_state(1, status=many), with_state(1, "job-2", status="tag 7")])
        for value in (many[0], many[-1]):
            assert len(await event_log.states("job", {"status": value}, 10)) == 1
        assert len(await event_log.states("job", {"status": "tag 7"}, 10)) == 2
        await event_log.append([with_state(2, status="few")])
        assert len(await event_log.states("job", {"status": "tag 7"}, 10)) == 1

    async def test_states_are_found_by_fields_declared_later_and_no_longer(
        self, event_log: EventLog
    ) -> None:
        async def found(**fields: Any) -> list[str]:
            return [one.stream for one in await event_log.states("job", fields, 10)]

        await event_log.append([with_state(1, status="open", city="Ulm", é=1)])
        for indexes in (["city"], ["city", "é"], [], ["status", "owner", "city"], ["no.field"]):
            await event_log.prepare_states("job", indexes)
            stream = f"job-{len(await found(city='Ulm')) + 1}"
            await event_log.append([with_state(1, stream, status="open", city="Ulm", é=1)])
            streams = [f"job-{n}" for n in range(1, int(stream[-1]) + 1)]
            for fields in ({"status": "open"}, {"city": "Ulm"}, {"é": 1}):
                assert await found(**fields) == streams, (indexes, fields)

    async def test_states_of_another_shape_are_found_besides(self, event_log: EventLog) -> None:
        one, two = state("job-1", 1, status="open"), state("job-2", 1, status="closed")
        old, new = state("job-3", 1, "2", phase="open"), state("job-4", 1, "3", phase="none")
        for each in (one, two, old, new):
            await event_log.save_state(each)
        fields = {"status": "open"}
        assert await event_log.states("job", fields, 10, shape="1") == [one, old, new]
        assert await event_log.states("job", fields, 10, shape="3") == [one, two, old]
        assert await event_log.states("job", {"phase": "open"}, 10, shape="2") == [
            one,
            two,
            old,
            new,
        ]
        assert len(await event_log.states("job", fields, 2, shape="1")) == 2

    async def test_all_states_of_a_category_come_page_by_page(self, event_log: EventLog) -> None:
        kept = [state(f"job-{n:03}", n + 1, status="open") for n in range(250)]
        others = [state(f"{name}-1", 1) for name in ("jobs", "job_", "jo", "=job")]
        await asyncio.gather(*map(event_log.save_state, (*reversed(kept), *others)))
        found, after = list[Snapshot](), ""
        while page := await event_log.states("job", {}, 100, after=after):
            found += page
            after = page[-1].stream
        assert found == kept

    async def test_states_are_forgotten_by_category_or_all(self, event_log: EventLog) -> None:
        streams = ("job-1", "job-2", "order-1", "=job", "jobs-1")
        for stream in streams:
            await event_log.save_state(state(stream, 1))
        await event_log.forget_states("job")
        found = [await event_log.state(stream) for stream in streams]
        assert [one is not None for one in found] == [False, False, True, True, True]
        await event_log.prepare_states("job", ["status"])
        await event_log.save_state(state("job-1", 1, status="open"))
        assert len(await event_log.states("job", {"status": "open"}, 9)) == 1
        await event_log.forget_states()
        assert [await event_log.state(stream) for stream in streams] == [None] * 5

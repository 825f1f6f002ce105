"""What every sink promises: changes and versions kept together, exactly once.

Subclasses provide the fixtures `sink`, with rows whose key is a text, with a text `title` and a
whole number `count`; and `places`: two places of it, open and empty, as two processes have them.
They say by `shown` what readers without the bus find under a name. What else a place can do is
tested if it does it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from bus.errors import ProjectionError
from bus.stores.collections import (
    Changes,
    Collections,
    Comparable,
    Fold,
    LoadsStreams,
    ReadUnit,
    Target,
    Write,
    able,
)
from bus.stores.sink import Increment, Place, Remove, Sink, Upsert
from bus.stores.sinks.placed import PlacedCollections

Rows = dict[str, dict[str, Any]]

NAMES = [
    "a",
    "A",
    "a ",
    "ä",
    "a\u0308",
    "ß",
    "ss",
    "😀",
    "😁",
    "\u2028",
    "'",
    "%s",
    ":a",
    "\\",
    '"',
]
"""Keys that a store may take for one another, or for something else."""


def changes(*writes: tuple[Any, Any], **versions: int) -> Changes:
    """Returns changes of rows by key, which bring the streams `job-...` to these versions. Each is
    of the stream that is named after its key, if that is among them, or else of the first."""
    reached = {f"job-{name}": version for name, version in versions.items()}

    def write(key: Any, change: Any) -> Write:
        stream = f"job-{key}" if f"job-{key}" in reached else next(iter(reached))
        return Write(key, change, by="test", stream=stream, version=reached[stream])

    return Changes([write(key, change) for key, change in writes], reached)


def counting(version: int, key: str = "a") -> Fold:
    """Returns a fold that adds 1 to a row's count for each version that is new."""

    async def fold(unit: ReadUnit) -> Changes:
        stream = f"job-{key}"
        new = range(unit.versions[stream] + 1, version + 1)
        writes = [
            Write(key, Increment(count=1), by="test", stream=stream, version=number)
            for number in new
        ]
        return Changes(writes, {stream: version} if new else {})

    return fold


class SinkContract:
    """Rows and versions, changed together or not at all."""

    @pytest.fixture
    def sink(self) -> Sink:
        raise NotImplementedError

    @pytest.fixture
    async def places(self, sink: Sink) -> Sequence[Place]:
        raise NotImplementedError

    @pytest.fixture
    async def place(self, places: Sequence[Place], target: Target) -> Place:
        """A place with the target's collection."""
        assert list(await places[0].prepare(target)) == []
        return places[0]

    @pytest.fixture
    def target(self, sink: Sink) -> Target:
        return Target("jobs", "jobs__v1", False, place=sink.kind)

    async def shown(self, place: Place, name: str) -> Rows | None:
        """Returns the rows that readers without the bus find under a name; None if there is none
        such."""
        raise NotImplementedError

    def refused(self) -> Any:
        """Returns a change that the place refuses."""
        return Increment(title=1)

    async def rows(self, place: Place, target: Target) -> Rows:
        """Returns the rows of a collection, without fields that hold nothing."""
        comparable: Any = place
        page = await comparable.page(target, "", 1000)
        return {row["_id"]: _held(row) for row in page}

    # --- versions --------------------------------------------------------------------------------

    async def test_changes_are_written_with_their_versions(
        self, place: Place, target: Target
    ) -> None:
        made = changes(("a", Upsert(title="x")), ("b", Increment(count=5)), a=3, b=1)
        assert await place.write(target, made, {"job-a": 0, "job-b": 0, "job-c": 0})
        streams = ["job-c", "job-b", "job-a"]
        assert await place.versions(target, streams) == {"job-a": 3, "job-b": 1}
        assert await place.versions(target, []) == {}
        assert await self.rows(place, target) == {"a": {"title": "x"}, "b": {"count": 5}}

    async def test_a_version_advances_without_a_change(self, place: Place, target: Target) -> None:
        assert await place.write(target, changes(a=4), {"job-a": 0})
        assert await place.write(target, changes(a=7), {"job-a": 4})
        assert await place.versions(target, ["job-a"]) == {"job-a": 7}
        assert await self.rows(place, target) == {}

    @pytest.mark.parametrize("known", [0, 2])
    async def test_nothing_is_written_where_another_writer_was_first(
        self, place: Place, target: Target, known: int
    ) -> None:
        if known:
            await place.write(target, changes(a=known), {"job-a": 0})
        first = changes(("a", Upsert(title="first")), a=3)
        assert await place.write(target, first, {"job-a": known})
        late = changes(("a", Upsert(title="late")), ("b", Upsert(title="late")), a=3, b=1)
        for before in {0, known, 2, 4}:
            assert not await place.write(target, late, {"job-a": before, "job-b": 0})
        assert await self.rows(place, target) == {"a": {"title": "first"}}
        assert await place.versions(target, ["job-a", "job-b"]) == {"job-a": 3}

    async def test_two_writers_of_one_stream_apply_each_event_once(
        self, sink: Sink, place: Place, places: Sequence[Place], target: Target
    ) -> None:
        async def work(own: Place) -> None:
            writer = PlacedCollections(sink, own).writer(target, "queue")
            for version in range(1, 8):
                believed = {"job-a": version - 1}
                await writer.transact(["job-a"], counting(version), believed=believed)
                await writer.transact(["job-b"], counting(version, "b"))
            await writer.close()

        await asyncio.gather(*(work(own) for own in (*places, *places)))
        assert await self.rows(place, target) == {"a": {"count": 7}, "b": {"count": 7}}

    async def test_two_writers_of_one_row_lose_nothing(
        self, place: Place, places: Sequence[Place], sink: Sink, target: Target
    ) -> None:
        async def work(own: Place, stream: str) -> None:
            writer = PlacedCollections(sink, own).writer(target, stream)
            for version in range(1, 11):
                keys = ["x", "y"] if stream == "one" else ["y", "x"]
                added = changes(*((key, Increment(count=1)) for key in keys), **{stream: version})

                async def fold(unit: ReadUnit, added: Changes = added) -> Changes:
                    return added

                await writer.transact([f"job-{stream}"], fold)

        await asyncio.gather(*map(work, places, ["one", "two"]))
        assert await self.rows(place, target) == {"x": {"count": 20}, "y": {"count": 20}}

    async def test_what_was_reached_is_told_page_by_page(
        self, place: Place, target: Target
    ) -> None:
        reached: Any = getattr(place, "reached", None)
        if reached is None:
            pytest.skip("it does not tell")
        before = {"job-a": 0, "job-B": 0, "job-c": 0}
        await place.write(target, changes(a=1, B=2, c=3), before)
        assert await reached(target, "", 2) == {"job-B": 2, "job-a": 1}
        assert await reached(target, "job-a", 2) == {"job-c": 3}
        assert await reached(target, "job-c", 2) == {}

    # --- changes ---------------------------------------------------------------------------------

    async def test_changes_of_each_kind_do_what_they_say(
        self, place: Place, target: Target
    ) -> None:
        before = {"job-a": 0}
        await place.write(target, changes(("a", Upsert(title="x", count=2)), a=1), before)
        some = [("a", Upsert(title="y")), ("b", Increment(count=-3)), ("c", Upsert())]
        await place.write(target, changes(*some, ("a", Increment(count=4)), a=2), {"job-a": 1})
        rows = await self.rows(place, target)
        assert rows == {"a": {"title": "y", "count": 6}, "b": {"count": -3}, "c": {}}
        some = [("a", Remove()), ("no such row", Remove()), ("b", Upsert(count=None))]
        await place.write(target, changes(*some, a=3), {"job-a": 2})
        await place.write(target, changes(("b", Increment(count=1)), a=4), {"job-a": 3})
        assert await self.rows(place, target) == {"b": {"count": 1}, "c": {}}

    async def test_changes_of_one_row_apply_in_order(self, place: Place, target: Target) -> None:
        some = [
            *(("a", Increment(count=2)), ("a", Upsert(title="x")), ("a", Remove())),
            *(("a", Increment(count=1)), ("b", Upsert(count=5)), ("b", Increment(count=1))),
            *(("c", Upsert(title="gone")), ("c", Remove()), ("a", Upsert(title="y"))),
        ]
        for version in (1, 2):
            assert await place.write(target, changes(*some, a=version), {"job-a": version - 1})
            rows = await self.rows(place, target)
            assert rows == {"a": {"count": 1, "title": "y"}, "b": {"count": 6}}

    async def test_keys_and_streams_are_told_apart_to_the_last_letter(
        self, place: Place, target: Target
    ) -> None:
        some = [(name, Upsert(title=name)) for name in NAMES]
        versions = {name: number for number, name in enumerate(NAMES, 1)}
        before = {f"job-{name}": 0 for name in NAMES}
        assert await place.write(target, changes(*some, **versions), before)
        assert await self.rows(place, target) == {name: {"title": name} for name in NAMES}
        reached = await place.versions(target, list(before))
        assert reached == {f"job-{name}": version for name, version in versions.items()}

    async def test_a_refused_change_writes_nothing(self, place: Place, target: Target) -> None:
        await place.write(target, changes(("a", Upsert(title="x")), a=1), {"job-a": 0})
        some = changes(("b", Upsert(title="y")), ("a", self.refused()), a=2, b=1)
        with pytest.raises(ProjectionError):
            await place.write(target, some, {"job-a": 1, "job-b": 0})
        assert await self.rows(place, target) == {"a": {"title": "x"}}
        assert await place.versions(target, ["job-a", "job-b"]) == {"job-a": 1}

    async def test_a_large_batch_is_written_at_once(self, place: Place, target: Target) -> None:
        streams = {str(number): 1 for number in range(3000)}
        for version in (0, 1):
            some = [(name, Upsert(title=f"{name} {version}")) for name in streams]
            made = changes(*some, **dict.fromkeys(streams, version + 1))
            assert await place.write(target, made, dict.fromkeys(made.versions, version))
        reached = await place.versions(target, [f"job-{name}" for name in streams])
        assert set(reached.values()) == {2}
        assert len(reached) == 3000

    async def test_a_change_that_leaves_some_fields_out_leaves_them_alone(
        self, place: Place, target: Target
    ) -> None:
        """In one batch with others, of rows that are there, and of new ones."""
        before = {"job-a": 0}
        await place.write(target, changes(("a", Upsert(title="x", count=2)), a=1), before)
        some = [("b", Upsert(title="y")), ("a", Increment(count=1)), ("c", Increment(count=2))]
        made = changes(*some, ("d", Remove()), a=2, b=1, c=1, d=1)
        assert await place.write(target, made, {"job-a": 1, "job-b": 0, "job-c": 0, "job-d": 0})
        some = [("b", Increment(count=4)), ("a", Remove()), ("c", Upsert(title="z"))]
        made = changes(*some, ("a", Increment(count=1)), ("d", Upsert()), a=3, b=2, c=2, d=2)
        assert await place.write(target, made, {"job-a": 2, "job-b": 1, "job-c": 1, "job-d": 1})
        assert await self.rows(place, target) == {
            "a": {"count": 1},
            "b": {"title": "y", "count": 4},
            "c": {"title": "z", "count": 2},
            "d": {},
        }

    # --- builds ----------------------------------------------------------------------------------

    async def test_what_whole_streams_make_is_loaded_once(
        self, sink: Sink, place: Place, target: Target
    ) -> None:
        loads = self.loading(sink, place, target)
        some = [("a", Upsert(title="x")), ("a", Increment(count=2)), ("b", Increment(count=1))]
        made = changes(*some, ("c", Upsert(title="z")), ("c", Remove()), a=2, b=1, c=2)
        assert set(await loads.load_streams(target, made)) == set()
        more = changes(*some, ("d", Upsert(title="new")), a=3, b=1, d=1)
        assert set(await loads.load_streams(target, more)) == {"job-a", "job-b"}
        assert set(await loads.load_streams(target, more)) == {"job-a", "job-b", "job-d"}
        assert await self.rows(place, target) == {
            "a": {"title": "x", "count": 2},
            "b": {"count": 1},
            "d": {"title": "new"},
        }
        reached = await place.versions(target, [f"job-{name}" for name in "abcd"])
        assert reached == {"job-a": 2, "job-b": 1, "job-c": 2, "job-d": 1}

    async def test_two_that_load_the_same_load_it_once(
        self, sink: Sink, place: Place, places: Sequence[Place], target: Target
    ) -> None:
        parts = [changes(*_numbered(part), **_versions(part)) for part in (range(60), range(90))]
        loads = [self.loading(sink, own, target) for own in places]
        pairs = [(own, part) for own in loads for part in parts]
        await asyncio.gather(*(own.load_streams(target, part) for own, part in pairs))
        rows = await self.rows(place, target)
        assert rows == {f"k{number}": {"count": number} for number in range(1, 90)}

    async def test_a_load_with_a_refused_row_loads_nothing(
        self, sink: Sink, place: Place, target: Target
    ) -> None:
        loads = self.loading(sink, place, target)
        some = changes(("b", Upsert(title="y")), ("a", self.refused()), a=1, b=1)
        with pytest.raises(ProjectionError):
            await loads.load_streams(target, some)
        assert await self.rows(place, target) == {}
        assert await place.versions(target, ["job-a", "job-b"]) == {}

    def loading(self, sink: Sink, place: Place, target: Target) -> LoadsStreams:
        """Returns the place, if it can load; else skips the test."""
        found: LoadsStreams | None = able(PlacedCollections(sink, place), LoadsStreams, target)
        if found is None:
            pytest.skip("it cannot load")
        return found

    # --- collections -----------------------------------------------------------------------------

    async def test_preparing_and_dropping_twice_does_no_harm(
        self, place: Place, target: Target
    ) -> None:
        other = target._replace(collection="jobs__v2")
        await place.prepare(other)
        for own in (target, other):
            await place.write(own, changes(("a", Upsert(title="x")), a=3), {"job-a": 0})
        for _ in range(2):
            assert list(await place.prepare(target)) == []
        assert await place.versions(target, ["job-a"]) == {"job-a": 3}
        for _ in range(2):
            await place.drop(target)
        assert await place.versions(target, ["job-a"]) == {}
        assert await self.rows(place, other) == {"a": {"title": "x"}}
        assert await place.versions(other, ["job-a"]) == {"job-a": 3}
        await place.prepare(target)
        assert await self.rows(place, target) == {}
        assert await place.versions(target, ["job-a"]) == {}

    async def test_two_processes_prepare_at_once(
        self, places: Sequence[Place], target: Target
    ) -> None:
        found = await asyncio.gather(*(own.prepare(target) for own in (*places, *places)))
        assert [list(problems) for problems in found] == [[]] * 4
        assert await places[0].write(target, changes(a=1), {"job-a": 0})
        assert await places[1].versions(target, ["job-a"]) == {"job-a": 1}

    async def test_a_collection_that_is_made_again_has_another_identity(
        self, place: Place, places: Sequence[Place], target: Target
    ) -> None:
        identities: Any = getattr(place, "identities", None)
        if identities is None:
            pytest.skip("it has no identities")
        before = await identities()
        elsewhere: Any = places[1]
        assert await elsewhere.identities() == before
        some = await identities([target.collection, "no such collection"])
        assert some == {target.collection: before[target.collection]}
        await place.drop(target)
        assert target.collection not in await identities()
        await place.prepare(target)
        assert (await identities())[target.collection] != before[target.collection]

    async def test_a_name_shows_one_collection_and_then_the_next(
        self, place: Place, target: Target
    ) -> None:
        other = target._replace(collection="jobs__v2")
        await place.prepare(other)
        await place.write(target, changes(("a", Upsert(title="old")), a=1), {"job-a": 0})
        await place.write(other, changes(("a", Upsert(title="new")), a=1), {"job-a": 0})
        for own, title in ((target, "old"), (target, "old"), (other, "new"), (target, "old")):
            assert await place.show("jobs", own) is None
            assert await self.shown(place, "jobs") == {"a": {"title": title}}
        await place.write(target, changes(("a", Upsert(title="later")), a=2), {"job-a": 1})
        assert await self.shown(place, "jobs") == {"a": {"title": "later"}}
        for _ in range(2):
            assert await place.show("jobs", None) is None
            assert not await self.shown(place, "jobs")

    # --- audits ----------------------------------------------------------------------------------

    async def test_rows_are_read_by_page_by_key_and_at_random(
        self, sink: Sink, place: Place, target: Target
    ) -> None:
        comparable = self.comparable(sink, place, target)
        some = [(key, Upsert(title=key)) for key in NAMES]
        await place.write(target, changes(*some, a=1), {"job-a": 0})
        keys, after = list[str](), ""
        while page := await comparable.page(target, after, 4):
            keys += [row["_id"] for row in page]
            after = keys[-1]
        assert keys == sorted(NAMES)
        found = await comparable.whole(target, ["a", "x"])
        assert {key: _held(row) for key, row in found.items()} == {"a": {"title": "a"}}
        assert await comparable.whole(target, []) == {}
        chosen = await comparable.sample(target, 3)
        assert len(set(chosen)) == 3
        assert set(chosen) < set(NAMES)
        assert len(await comparable.sample(target, 99)) == len(NAMES)

    async def test_a_row_is_replaced_only_where_it_stands_unchanged(
        self, sink: Sink, place: Place, target: Target
    ) -> None:
        comparable = self.comparable(sink, place, target)
        some = [("a", Upsert(title="x", count=1)), ("b", Upsert(title="y", count=2))]
        await place.write(target, changes(*some, a=1), {"job-a": 0})
        rows = await comparable.whole(target, ["a", "b"])
        first, second = rows["a"], {**rows["b"], "_id": "a"}
        assert not await comparable.replace(target, "a", None, second)
        assert not await comparable.replace(target, "a", second, first)
        assert await comparable.replace(target, "a", first, second)
        assert await comparable.whole(target, ["a"]) == {"a": second}
        assert not await comparable.replace(target, "a", first, None)
        assert await comparable.replace(target, "a", second, None)
        assert await comparable.whole(target, ["a"]) == {}
        assert await comparable.replace(target, "a", None, first)
        assert await self.rows(place, target) == {
            "a": {"title": "x", "count": 1},
            "b": {"title": "y", "count": 2},
        }

    def comparable(self, sink: Sink, place: Place, target: Target) -> Comparable:
        """Returns the place, if it can be audited; else skips the test."""
        collections: Collections = PlacedCollections(sink, place)
        found: Comparable | None = able(collections, Comparable, target)
        if found is None:
            pytest.skip("it cannot be audited")
        return found


def _numbered(numbers: Iterable[int]) -> list[tuple[str, Any]]:
    return [(f"k{number}", Increment(count=number)) for number in numbers if number]


def _versions(numbers: Iterable[int]) -> dict[str, int]:
    return {f"k{number}": 1 for number in numbers if number}


def _held(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "_id" and value is not None}

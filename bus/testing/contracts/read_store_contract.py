"""What every read store promises.

Subclasses give the fixture `read_store`, open and empty; they close it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from bus.common import clock
from bus.data.payload import Document
from bus.errors import InvalidMessage, ProjectionError
from bus.stores.collections import (
    ChangeFeed,
    Changes,
    Fold,
    Index,
    Note,
    Parked,
    ReadStore,
    ReadUnit,
    Target,
    Write,
    Writer,
)
from bus.stores.grouping import COUNT, grouping_of
from bus.testing.contracts.updates_contract import UpdatesContract
from bus.testing.contracts.values_contract import ValuesContract

Update = Mapping[str, Any]
ALL: Update = {}

IN_DOCUMENTS = Target("jobs", "jobs", True)
IN_CHECKPOINTS = Target("board", "board", False)


def changing(*writes: tuple[str, Update | None], **versions: int) -> Fold:
    """A fold with fixed changes; `versions` by the streams' keys, in the category `job`."""
    changes = Changes(
        [Write(key, update) for key, update in writes],
        {f"job-{key}": version for key, version in versions.items()},
    )

    async def fold(unit: ReadUnit) -> Changes:
        return changes

    return fold


def counting(version: int, key: str = "a") -> Fold:
    """Folds the events of one stream up to `version`, each of which adds one."""

    async def fold(unit: ReadUnit) -> Changes:
        new = range(unit.versions[f"job-{key}"], version)
        if not new:
            return Changes([], {})
        return Changes([Write(key, {"$inc": {"n": 1}}) for _ in new], {f"job-{key}": version})

    return fold


async def written(writer: Writer, documents: Sequence[Document]) -> None:
    """Writes documents under the keys k0, k1, ..."""
    writes = [(f"k{n}", {"$set": one}) for n, one in enumerate(documents)]
    await writer.transact([], changing(*writes, **{key: 1 for key, _ in writes}))


class ReadStoreContract(ValuesContract, UpdatesContract):
    """Transactions, reads, and the small shared records."""

    @pytest.fixture(params=[IN_DOCUMENTS, IN_CHECKPOINTS], ids=["in documents", "in checkpoints"])
    async def target(self, request: pytest.FixtureRequest, read_store: ReadStore) -> Target:
        """Both places for the versions."""
        target: Target = request.param
        await read_store.prepare(target)
        return target

    @pytest.fixture
    async def writer(self, read_store: ReadStore, target: Target) -> AsyncIterator[Writer]:
        """A writer that has taken over."""
        writer = read_store.writer(target, "queue")
        await writer.take_over()
        yield writer
        await writer.close()

    @pytest.fixture
    async def feed(self, read_store: ReadStore, target: Target) -> AsyncIterator[ChangeFeed]:
        """A feed of the target's changes, which nobody has asked yet."""
        feed = read_store.changes(target)
        yield feed
        await feed.close()

    @pytest.fixture
    def ticking(self, monkeypatch: pytest.MonkeyPatch) -> "Ticking":
        """Time stands still but for what the test lets pass."""
        ticking = Ticking()
        monkeypatch.setattr(clock, "source", ticking)
        return ticking

    async def test_changes_are_written_with_their_versions(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        fold = changing(("a", {"$set": {"n": 1}}), ("b", {"$inc": {"n": 5}}), a=3, b=1)
        changes = await writer.transact(["job-a", "job-b", "job-c"], fold)
        assert changes.versions == {"job-a": 3, "job-b": 1}
        streams = ["job-c", "job-b", "job-a"]
        assert await read_store.versions(target, streams) == {"job-a": 3, "job-b": 1}
        assert await all_of(read_store, target) == [{"_id": "a", "n": 1}, {"_id": "b", "n": 5}]

    async def test_what_was_reached_is_told_page_by_page(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        keys = ["a", "b", "c"]
        for number, key in enumerate(keys, 1):
            fold = changing((key, {"$set": {"n": 1}}), **{key: number})
            await writer.transact([f"job-{key}"], fold)
        names = keys if target.versions_in_documents else [f"job-{key}" for key in keys]
        first = await read_store.reached(target, "", 2)
        assert first == {names[0]: 1, names[1]: 2}
        assert await read_store.reached(target, names[1], 2) == {names[2]: 3}

    async def test_a_collection_that_is_made_again_has_another_identity(
        self, read_store: ReadStore, target: Target
    ) -> None:
        before = await read_store.identities()
        assert await read_store.identities() == before
        some = await read_store.identities([target.collection, "no such collection"])
        assert some == {target.collection: before[target.collection]}
        await read_store.drop(target)
        assert target.collection not in await read_store.identities()
        await read_store.prepare(target)
        assert (await read_store.identities())[target.collection] != before[target.collection]

    async def test_a_seal_is_replaced_by_none_of_an_earlier_turn(
        self, read_store: ReadStore
    ) -> None:
        assert await read_store.seal() == {}
        for turn, name in ((2, "b"), (1, "a"), (2, "c")):
            await read_store.set_seal({"turn": turn, "name": name})
        assert await read_store.seal() == {"turn": 2, "name": "c"}

    async def test_the_fold_is_told_the_versions_reached(self, writer: Writer) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
        seen: dict[str, int] = {}

        async def fold(unit: ReadUnit) -> Changes:
            seen.update(unit.versions)
            return Changes([], {})

        await writer.transact(["job-a", "job-b"], fold)
        assert seen == {"job-a": 3, "job-b": 0}

    async def test_whole_documents_are_inserted_and_those_that_stand_there_stay(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
        new = [{"_id": key, "n": 9, "_version": 7} for key in ("a", "b", "c")]
        await read_store.insert(target, new)
        shown = [(one["_id"], one["n"]) for one in await all_of(read_store, target)]
        assert shown == [("a", 1), ("b", 9), ("c", 9)]
        if target.versions_in_documents:
            reached = await read_store.versions(target, ["job-a", "job-b"])
            assert reached == {"job-a": 3, "job-b": 7}

    async def test_a_document_that_cannot_be_inserted_is_refused(
        self, read_store: ReadStore, target: Target
    ) -> None:
        with pytest.raises((ProjectionError, InvalidMessage)):
            await read_store.insert(target, [{"_id": "a", "n": 2**70}])

    async def test_whole_documents_are_read_by_page_by_key_and_at_random(
        self, read_store: ReadStore, target: Target
    ) -> None:
        documents = [{"_id": key, "_version": 1, "n": key} for key in ("é", "b", "a", "c")]
        await read_store.insert(target, [*documents, {"_id": "d", "_hidden": True, "_version": 2}])
        first = await read_store.page(target, "", 2)
        assert first == [documents[2], documents[1]]
        rest = await read_store.page(target, "b", 9)
        assert [one["_id"] for one in rest] == ["c", "d", "é"]
        assert rest[1] == {"_id": "d", "_hidden": True, "_version": 2}
        assert await read_store.whole(target, ["a", "x"]) == {"a": documents[2]}
        chosen = await read_store.sample(target, 3)
        assert len(set(chosen)) == 3
        assert set(chosen) < {"a", "b", "c", "d", "é"}
        assert len(await read_store.sample(target, 9)) == 5

    async def test_a_document_is_replaced_only_where_it_stands_unchanged(
        self, read_store: ReadStore, target: Target
    ) -> None:
        first, second = {"_id": "a", "n": 1, "of": {"x": "$n"}}, {"_id": "a", "n": 2}
        assert await read_store.replace(target, "a", None, first)
        assert not await read_store.replace(target, "a", None, second)
        assert not await read_store.replace(target, "a", second, first)
        assert await read_store.replace(target, "a", first, second)
        assert await read_store.whole(target, ["a"]) == {"a": second}
        assert not await read_store.replace(target, "a", first, None)
        assert await read_store.replace(target, "a", second, None)
        assert await read_store.whole(target, ["a"]) == {}

    async def test_a_dropped_target_is_as_if_it_had_never_been(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        other = target._replace(projection="others", collection="others")
        await read_store.prepare(other)
        for one in (target, other):
            own = read_store.writer(one, f"queue of {one.collection}")
            await own.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
            await own.close()
            await read_store.park(one, Parked("job-b", 1, "Error", 1, clock.now()))
            await read_store.mark_swept(one, clock.now())
            assert await read_store.write_note(Note(f"{one.collection}/plan", {"n": 1}))
        for _ in range(2):
            await read_store.drop(target)
        assert await all_of(read_store, target) == []
        assert await read_store.versions(target, ["job-a"]) == {}
        assert await read_store.parked(target) == []
        assert await read_store.swept(target) is None
        assert (await read_store.note(f"{target.collection}/plan")).revision == 0
        assert (await read_store.note("others/plan")).revision == 1
        assert await read_store.versions(other, ["job-a"]) == {"job-a": 3}
        assert len(await read_store.parked(other)) == 1

    async def test_a_note_is_written_by_one_of_those_who_read_it(
        self, read_store: ReadStore
    ) -> None:
        empty = await read_store.note("n")
        assert empty == Note("n", {})
        tries = [read_store.write_note(empty._replace(value={"by": n})) for n in range(5)]
        assert sum(await asyncio.gather(*tries)) == 1
        first = await read_store.note("n")
        assert first.revision == 1
        assert await read_store.write_note(first._replace(value={"list": [{"a": 1.5}], "by": 9}))
        assert not await read_store.write_note(first)
        assert await read_store.note("n") == Note("n", {"list": [{"a": 1.5}], "by": 9}, 2)

    async def test_a_feed_tells_of_changes_once_where_they_come_together(
        self, feed: ChangeFeed, writer: Writer
    ) -> None:
        assert await feed.changed()
        assert not await feed.changed()
        writes = [(key, {"$set": {"n": 1}}) for key in ("a", "b", "c")]
        await writer.transact([], changing(*writes, a=1, b=1, c=1))
        assert await feed.changed()
        assert not await feed.changed()
        await writer.transact([], changing(("b", None), b=2))
        assert await feed.changed()

    async def test_a_feed_tells_of_changes_that_nobody_waited_for(
        self, feed: ChangeFeed, writer: Writer
    ) -> None:
        assert await feed.changed()
        for version in range(1, 4):
            await writer.transact([], changing(("a", {"$inc": {"n": 1}}), a=version))
        assert await feed.changed()

    async def test_a_feed_wakes_those_who_wait(self, feed: ChangeFeed, writer: Writer) -> None:
        assert await feed.changed()
        waiting = asyncio.create_task(feed.changed())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await writer.transact([], changing(("a", {"$set": {"n": 1}}), a=1))
        assert await waiting

    async def test_a_feed_tells_nothing_of_other_targets(
        self, read_store: ReadStore, feed: ChangeFeed
    ) -> None:
        assert await feed.changed()
        other = Target("others", "others", False)
        await read_store.prepare(other)
        writer = read_store.writer(other, "queue")
        await writer.transact([], changing(("a", {"$set": {"n": 1}}), a=1))
        await writer.close()
        assert not await feed.changed()

    async def test_a_feed_tells_when_its_target_is_dropped_and_goes_on_with_the_next(
        self, read_store: ReadStore, target: Target, feed: ChangeFeed, writer: Writer
    ) -> None:
        await writer.transact([], changing(("a", {"$set": {"n": 1}}), a=1))
        assert await feed.changed()
        await read_store.drop(target)
        assert await feed.changed()
        while await feed.changed():
            pass
        await read_store.prepare(target)
        await writer.transact([], changing(("b", {"$set": {"n": 1}}), b=1))
        assert await feed.changed()

    async def test_a_fold_that_raises_writes_nothing(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"n": 1}})
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await writer.transact(["job-a"], fold)
        assert await all_of(read_store, target) == []
        assert await read_store.versions(target, ["job-a"]) == {}
        await writer.transact(["job-a"], counting(2))
        assert await all_of(read_store, target) == [{"_id": "a", "n": 2}]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"n": 1},
            {},
            [{"$set": {"n": 1}}],
            {"$set": {"n": 1}, "m": 2},
            {"$set": 1},
            {"$where": {"n": 1}},
            {"$set": {"n": 2**63}},
            {"$inc": {"text": 1}},
        ],
        ids=str,
    )
    async def test_what_is_no_update_is_refused_and_nothing_is_written(
        self, read_store: ReadStore, target: Target, writer: Writer, wrong: Any
    ) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"text": "x"}}), a=1))
        with pytest.raises(ProjectionError):
            await writer.transact(
                ["job-a", "job-b"], changing(("b", {"$set": {"n": 1}}), ("a", wrong), a=2, b=1)
            )
        assert await all_of(read_store, target) == [{"_id": "a", "text": "x"}]
        assert await read_store.versions(target, ["job-a", "job-b"]) == {"job-a": 1}

    async def test_updates_of_one_document_apply_in_order(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        updates: list[Update | None] = [
            {"$set": {"first": 1}, "$setOnInsert": {"made": 1}},
            {"$push": {"list": "x"}},
            {"$push": {"list": "y"}, "$unset": {"first": ""}, "$inc": {"n": 2}},
        ]
        await writer.transact(["job-a"], changing(*[("a", one) for one in updates], a=3))
        expected = {"_id": "a", "made": 1, "list": ["x", "y"], "n": 2}
        assert await all_of(read_store, target) == [expected]

    async def test_a_stream_without_a_document_has_a_version_and_shows_nothing(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], changing(a=4))
        assert await read_store.versions(target, ["job-a"]) == {"job-a": 4}
        documents = read_store.documents(target)
        assert await documents.find({}) == []
        assert await documents.find_one({"_id": "a"}) is None
        assert await documents.count({}) == 0

    async def test_a_document_made_after_a_stub_or_a_delete_is_new_to_its_author(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        make = {"$setOnInsert": {"made": 1}, "$inc": {"n": 1}, "$unset": {"x": ""}}
        await writer.transact(["job-a"], changing(a=1))
        await writer.transact(["job-a"], changing(("a", make), a=2))
        assert await all_of(read_store, target) == [{"_id": "a", "made": 1, "n": 1}]
        await writer.transact(["job-a"], changing(("a", None), ("a", make), ("a", make), a=5))
        assert await all_of(read_store, target) == [{"_id": "a", "made": 1, "n": 2}]

    async def test_a_deleted_document_keeps_its_version(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], counting(2))
        await writer.transact(["job-a"], changing(("a", None), a=3))
        assert await all_of(read_store, target) == []
        assert await read_store.versions(target, ["job-a"]) == {"job-a": 3}
        await writer.transact(["job-a"], counting(2))
        assert await all_of(read_store, target) == []
        await writer.transact(["job-a"], changing(("a", None), a=4))
        await writer.transact(["job-a"], counting(5))
        assert await all_of(read_store, target) == [{"_id": "a", "n": 1}]

    async def test_a_version_advances_without_touching_the_document(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], counting(1))
        await writer.transact(["job-a"], changing(a=7))
        assert await all_of(read_store, target) == [{"_id": "a", "n": 1}]
        assert await read_store.versions(target, ["job-a"]) == {"job-a": 7}

    async def test_a_fold_reads_its_own_writes(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a", "job-b"], changing(("a", {"$set": {"n": 1}}), a=1, b=1))

        async def fold(unit: ReadUnit) -> Changes:
            documents = unit.documents
            await documents.update("a", {"$inc": {"n": 1}})
            await documents.update("b", {"$setOnInsert": {"made": 1}})
            found = await documents.find({}, sort=[("_id", -1)])
            assert found == [{"_id": "b", "made": 1}, {"_id": "a", "n": 2}]
            assert await all_of(read_store, target) == [{"_id": "a", "n": 1}]
            await documents.delete("a")
            assert await documents.find_one({"_id": "a"}) is None
            assert await documents.count({}) == 1
            return Changes([Write("b", {"$set": {"n": 3}})], {"job-a": 2, "job-b": 2})

        await writer.transact(["job-a", "job-b"], fold)
        assert await all_of(read_store, target) == [{"_id": "b", "made": 1, "n": 3}]
        assert await read_store.versions(target, ["job-a", "job-b"]) == {"job-a": 2, "job-b": 2}

    @pytest.mark.parametrize("known", [0, 2])
    async def test_of_two_writers_the_later_one_folds_again_on_fresh_versions(
        self, read_store: ReadStore, target: Target, writer: Writer, known: int
    ) -> None:
        if known:
            await writer.transact(["job-a"], counting(known))
        zombie = read_store.writer(target, "another queue")
        seen: list[int] = []

        async def fold(unit: ReadUnit) -> Changes:
            seen.append(unit.versions["job-a"])
            if len(seen) == 1:
                await writer.transact(["job-a"], counting(3))
            return await counting(4)(unit)

        await zombie.transact(["job-a"], fold)
        await zombie.close()
        assert seen == [known, 3]
        assert await all_of(read_store, target) == [{"_id": "a", "n": 4}]
        assert await read_store.versions(target, ["job-a"]) == {"job-a": 4}

    @pytest.mark.parametrize("believed", [0, 1, 2, 3, 4])
    @pytest.mark.parametrize("known", [0, 2, 4])
    async def test_what_is_believed_of_a_stream_decides_nothing(
        self, read_store: ReadStore, target: Target, writer: Writer, known: int, believed: int
    ) -> None:
        if known:
            await writer.transact(["job-a"], counting(known))
        await writer.transact(["job-b"], counting(1, "b"))
        seen: list[int] = []

        async def fold(unit: ReadUnit) -> Changes:
            seen.append(unit.versions["job-a"])
            a, b = await counting(5)(unit), await counting(2, "b")(unit)
            return Changes([*a.writes, *b.writes], {**a.versions, **b.versions})

        beliefs = {"job-a": believed, "job-b": 1}
        await writer.transact(["job-a", "job-b"], fold, believed=beliefs)
        assert seen[-1] == known
        assert await all_of(read_store, target) == [{"_id": "a", "n": 5}, {"_id": "b", "n": 2}]
        assert await read_store.versions(target, ["job-a", "job-b"]) == {"job-a": 5, "job-b": 2}

    async def test_a_hidden_document_shows_again_whatever_was_believed(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        make: dict[str, Any] = {"$setOnInsert": {"made": True}, "$inc": {"n": 1}}
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 7}}), a=1))
        await writer.transact(["job-a"], changing(("a", None), a=2), believed={"job-a": 1})
        await writer.transact(["job-b"], changing(b=1), believed={"job-b": 0})
        await writer.transact(["job-b"], changing(b=2), believed={"job-b": 1})
        assert await all_of(read_store, target) == []
        fold = changing(("a", make), ("b", make), a=3, b=3)
        await writer.transact(["job-a", "job-b"], fold, believed={"job-a": 2, "job-b": 2})
        made = {"made": True, "n": 1}
        assert await all_of(read_store, target) == [{"_id": "a", **made}, {"_id": "b", **made}]
        assert await read_store.versions(target, ["job-a", "job-b"]) == {"job-a": 3, "job-b": 3}

    async def test_many_writers_that_believe_what_they_like_apply_each_event_once(
        self, read_store: ReadStore, target: Target
    ) -> None:
        writers = [read_store.writer(target, f"queue {n}") for n in range(4)]

        async def work(writer: Writer) -> None:
            for version in range(1, 8):
                believed = {"job-a": version - 1}
                await writer.transact(["job-a"], counting(version), believed=believed)

        await asyncio.gather(*map(work, writers))
        for writer in writers:
            await writer.close()
        assert await all_of(read_store, target) == [{"_id": "a", "n": 7}]

    async def test_many_writers_apply_each_event_once(
        self, read_store: ReadStore, target: Target
    ) -> None:
        writers = [read_store.writer(target, f"queue {n}") for n in range(4)]
        keys = ["a", "b", "c"]

        async def work(writer: Writer) -> None:
            for version in range(1, 8):
                for key in keys:
                    await writer.transact([f"job-{key}"], counting(version, key))

        await asyncio.gather(*map(work, writers))
        for writer in writers:
            await writer.close()
        assert await all_of(read_store, target) == [{"_id": key, "n": 7} for key in keys]

    async def test_documents_are_filtered_sorted_and_paged(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        keys = [f"k{n}" for n in range(9)]
        writes = [(key, {"$set": {"n": n % 3, "m": n}}) for n, key in enumerate(keys)]
        await writer.transact([], changing(*writes, **dict.fromkeys(keys, 1)))
        documents = read_store.documents(target)
        order = [("n", 1), ("m", -1)]
        found = await documents.find({"m": {"$gte": 2}}, sort=order, skip=1, limit=4)
        assert [one["m"] for one in found] == [3, 7, 4, 8]
        assert [one["m"] for one in await documents.find({}, sort=[("m", 1)], skip=7)] == [7, 8]
        assert await documents.count({"n": 1}) == 3
        assert await documents.find_one({"_id": "k4"}) == {"_id": "k4", "n": 1, "m": 4}

    async def test_different_values_come_once_each_in_their_order(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        values: list[Document] = [
            {"n": 1, "tags": ["x", "y"], "owner": {"cities": [{"name": "Ulm"}, {"name": "Bern"}]}},
            {"n": 1.0, "tags": [], "owner": {"cities": [{"name": "Ulm"}, 3, [{"name": "no"}]]}},
            {"n": None, "tags": "x", "owner": "nobody"},
            {"n": "one", "tags": ["z", ["x"]], "m": True},
            {"n": True, "m": 1},
        ]
        await written(writer, values)
        documents = read_store.documents(target)
        assert await documents.distinct("n", {}) == [None, 1, "one", True]
        assert await documents.distinct("n", {"m": {"$exists": True}}) == ["one", True]
        assert await documents.distinct("tags", {}) == ["x", "y", "z", ["x"]]
        assert await documents.distinct("owner.cities.name", {}) == ["Bern", "Ulm"]
        assert await documents.distinct("owner.cities.1.name", {}) == ["Bern"]
        assert await documents.distinct("_id", {"m": {"$exists": False}}) == ["k0", "k1", "k2"]
        assert await documents.distinct("nothing", {}) == []
        with pytest.raises(ProjectionError):
            await documents.distinct("n", {"n": {"$what": 1}})

    async def test_documents_are_grouped_with_totals(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        values: list[Document] = [
            {"city": "Ulm", "pay": 3, "at": {"day": 1}},
            {"city": "Ulm", "pay": 4.5, "at": {"day": 2}},
            {"city": "Bern", "pay": 10, "at": {"day": 1}},
            {"city": None, "pay": "unknown"},
            {"pay": True, "at": {"day": 1}},
            {"city": "Bern", "at": {"day": 1}},
        ]
        await written(writer, values)
        documents = read_store.documents(target)

        async def groups(
            *by: str, filter: Update = ALL, limit: int = 0, sort: Any = (), **totals: Any
        ) -> list[tuple[Any, ...]]:
            asked = {name: {total[0]: total[1]} for name, total in totals.items()}
            rows = await documents.group(grouping_of(by, asked, sort, limit), filter)
            assert all(list(row) == [*by, *totals] for row in rows)
            return [tuple(row.values()) for row in rows]

        jobs = ("$sum", 1)
        assert await groups("city", n=jobs) == [(None, 2), ("Bern", 2), ("Ulm", 2)]
        pay: Any = {
            "total": ("$sum", "$pay"), "mean": ("$avg", "$pay"),
            "least": ("$min", "$pay"), "most": ("$max", "$pay"),
        }  # fmt: skip
        assert await groups("city", **pay) == [
            (None, 0, None, "unknown", True),
            ("Bern", 10, 10.0, 10, 10),
            ("Ulm", 7.5, 3.75, 3, 4.5),
        ]
        most = await groups("at.day", "city", sort=[("n", -1)], limit=2, n=jobs)
        assert most == [(1, "Bern", 2), (None, None, 1)]
        assert await groups(filter={"city": "Ulm"}, n=jobs, day=("$max", "$at.day")) == [(2, 2)]
        assert await groups(filter={"city": "Rome"}, n=jobs) == []
        assert await groups("at.day", filter={"city": "Ulm"}) == [(1,), (2,)]
        with pytest.raises(ProjectionError):
            await groups("city", filter={"city": {"$what": 1}}, n=jobs)

    async def test_totals_are_of_the_type_that_mongodb_gives_them(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        values: list[Document] = [
            {"whole": 2**62, "tenth": 0.1, "list": [{"n": 1}, {"n": 3}], "key": [2, 1]},
            {"whole": 2**62, "tenth": 0.1, "list": [{"n": 2}], "key": [1, 2]},
            {"whole": 1, "tenth": 0.1, "list": 7, "key": [2, 1]},
        ]
        values = [{**one, "exact": Decimal("0.1")} for one in values]
        await written(writer, values)
        documents = read_store.documents(target)
        asked = {name: {"$sum": f"${name}"} for name in ("whole", "tenth", "list", "list.n")}
        totals = {name.replace(".", "_"): one for name, one in asked.items()}
        totals |= {"exact": {"$sum": "$exact"}, "mean": {"$avg": "$exact"}}
        totals["first"] = {"$min": "$list.n"}
        (row,) = await documents.group(grouping_of((), totals, (), 0), {})
        assert row == {
            "whole": float(2**63), "exact": Decimal("0.3"), "mean": Decimal("0.1"),
            "tenth": pytest.approx(0.3, abs=1e-15), "list": 7, "list_n": 0,
            "first": [1, 3],
        }  # fmt: skip
        assert await documents.distinct("exact", {"exact": Decimal("0.1")}) == [Decimal("0.1")]
        counted = await documents.group(grouping_of("key", {"n": COUNT}, (), 0), {})
        assert sorted(map(repr, counted)) == [
            "{'key': [1, 2], 'n': 1}",
            "{'key': [2, 1], 'n': 2}",
        ]

    async def test_hidden_documents_are_in_no_group_and_no_value_of_theirs_shows(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await written(writer, [{"n": 1}, {"n": 2}])
        await writer.transact([], changing(("k1", None), k1=2, k5=1))
        documents = read_store.documents(target)
        assert await documents.distinct("_id", {}) == ["k0"]
        assert await documents.group(grouping_of("n", {"count": COUNT}, (), 0), {}) == [
            {"n": 1, "count": 1}
        ]

    async def test_a_fold_groups_its_own_writes(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await written(writer, [{"n": 1}])
        found: list[Any] = []

        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("k1", {"$set": {"n": 2}})
            found.append(await unit.documents.distinct("n", {}))
            grouping = grouping_of((), {"sum": {"$sum": "$n"}}, (), 0)
            found.append(await unit.documents.group(grouping, {}))
            return Changes([], {"job-k1": 1})

        await writer.transact(["job-k1"], fold)
        assert found == [[1, 2], [{"sum": 3}]]

    async def test_times_come_back_in_utc(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        now = clock.now()
        await writer.transact([], changing(("a", {"$set": {"time": now}}), a=1))
        (found,) = await all_of(read_store, target)
        assert found["time"] == now

    async def test_a_unique_index_refuses_what_it_must_and_hidden_documents_never(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await read_store.prepare(target._replace(indexes=(Index((("name", 1),), unique=True),)))
        writes = [(key, {"$set": {"name": key}}) for key in ("a", "b")]
        await writer.transact([], changing(*writes, a=1, b=1))
        await writer.transact([], changing(("a", None), ("b", None), a=2, b=2, c=1, d=1))
        await writer.transact([], changing(*writes, a=3, b=3))
        with pytest.raises(ProjectionError):
            await writer.transact([], changing(("a", {"$set": {"name": "b"}}), a=4))
        assert await read_store.versions(target, ["job-a"]) == {"job-a": 3}

    async def test_preparing_twice_does_no_harm(
        self, read_store: ReadStore, target: Target
    ) -> None:
        indexes = (Index((("n", 1), ("m", -1))), Index((("title", "text"),)))
        for _ in range(2):
            await read_store.prepare(target._replace(indexes=indexes))

    async def test_projections_share_no_versions(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        await writer.transact([], changing(a=3))
        other = target._replace(projection="other", collection="other")
        assert await read_store.versions(other, ["job-a"]) == {}

    async def test_parked_streams_are_kept_until_unparked(
        self, read_store: ReadStore, target: Target
    ) -> None:
        now = clock.now()
        failed = ("Paid", "no way", ("a.py:1 f", "b.py:2 g"), "f1", now, now)
        parked = Parked("job-a", 4, "ValueError", 1, now, *failed)
        await read_store.park(target, parked)
        await read_store.park(target, parked._replace(stream="job-b"))
        await read_store.park(target, parked._replace(tries=2))
        found = {one.stream: one for one in await read_store.parked(target)}
        assert found["job-a"] == parked._replace(tries=2)
        assert set(found) == {"job-a", "job-b"}
        (asked,) = await read_store.parked(target, ["job-b", "job-never"])
        assert asked == parked._replace(stream="job-b")
        assert await read_store.parked(target, []) == []
        assert await read_store.parked(target._replace(collection="other"), ["job-a"]) == []
        assert await read_store.parked(target._replace(collection="other")) == []
        await read_store.unpark(target, "job-a")
        await read_store.unpark(target, "job-never")
        assert [one.stream for one in await read_store.parked(target)] == ["job-b"]

    async def test_the_sweep_mark_is_kept(self, read_store: ReadStore, target: Target) -> None:
        assert await read_store.swept(target) is None
        now = clock.now()
        for until in (now, now + timedelta(minutes=1)):
            await read_store.mark_swept(target, until)
            assert await read_store.swept(target) == until

    async def test_a_lease_has_one_holder_until_it_ends(self, read_store: ReadStore) -> None:
        assert await read_store.lease("relay", "a", 60)
        assert await read_store.lease("relay", "a", 0)
        assert await read_store.lease("relay", "b", 60)
        assert not await read_store.lease("relay", "a", 60)
        assert await read_store.lease("other", "a", 60)
        got = await asyncio.gather(*[read_store.lease("new", f"o{n}", 60) for n in range(20)])
        assert sorted(got) == [False] * 19 + [True]

    async def test_dead_letters_are_kept_and_counted(self, read_store: ReadStore) -> None:
        letter = {"_id": "q/1", "body": b"x", "headers": {"a.b": "$c"}, "time": clock.now()}
        await read_store.add_dead_letter(letter)
        await read_store.add_dead_letter({**letter, "_id": "q/2"})
        await read_store.add_dead_letter({**letter, "body": b"other"})
        found = {one["_id"]: one for one in await read_store.dead_letters()}
        assert set(found) == {"q/1", "q/2"}
        assert found["q/1"].items() >= {**letter, "seen": 2}.items()
        assert found["q/2"]["seen"] == 1
        assert len(await read_store.dead_letters(limit=1)) == 1

    async def test_a_dead_letter_that_fails_again_keeps_its_message_and_tells_the_new_error(
        self, read_store: ReadStore
    ) -> None:
        first = letter("q/1", body=b"first")
        await read_store.add_dead_letter(first)
        assert await read_store.change_dead_letter("q/1", {"body": b"edited"})
        again = {**first, "error": "KeyError", "fingerprint": "f2", "attempts": 9}
        await read_store.add_dead_letter(again)
        (found,) = await read_store.dead_letters()
        assert found.items() >= {**again, "body": b"edited", "seen": 2}.items()
        assert found["first_seen"] <= found["last_seen"]

    async def test_dead_letters_are_found_by_their_fields_page_by_page(
        self, read_store: ReadStore, ticking: "Ticking"
    ) -> None:
        for number in range(5):
            await read_store.add_dead_letter(letter(f"q/{number}", message=f"M{number % 2}"))
            ticking.tick()
        await read_store.add_dead_letter(letter("q/0", message="M0"))
        assert await ids(read_store) == ["q/0", "q/4", "q/3", "q/2", "q/1"]
        assert await ids(read_store, limit=2, skip=1) == ["q/4", "q/3"]
        assert await ids(read_store, where={"message": "M1", "queue": "q"}) == ["q/3", "q/1"]
        assert await ids(read_store, where={"_id": "q/2"}) == ["q/2"]
        assert await ids(read_store, where={"queue": "other"}) == []
        await read_store.add_dead_letter({**letter("q/s"), "headers": {"stream": "job-1"}})
        assert await ids(read_store, where={"headers.stream": "job-1"}) == ["q/s"]
        assert await ids(read_store, where={"headers.stream": "job-2", "queue": "q"}) == []
        (some,) = await read_store.dead_letters(where={"_id": "q/s"}, fields=["headers"])
        assert some == {"_id": "q/s", "headers": {"stream": "job-1"}}
        assert await read_store.remove_dead_letters(["q/s"]) == 1
        assert await read_store.dead_letter_ids() == [f"q/{number}" for number in range(5)]
        assert await read_store.dead_letter_ids({"message": "M1"}) == ["q/1", "q/3"]

    async def test_dead_letters_of_one_fingerprint_are_a_group(
        self, read_store: ReadStore, ticking: "Ticking"
    ) -> None:
        assert await read_store.dead_letter_groups() == []
        started = clock.now()
        for number, fingerprint in enumerate(["f1", "f2", "f1"]):
            one = letter(f"q/{number}", fingerprint=fingerprint, reason=f"r{number}")
            await read_store.add_dead_letter(one)
            ticking.tick()
        first, second = await read_store.dead_letter_groups()
        assert first == {
            "fingerprint": "f1",
            "count": 2,
            "first_seen": started,
            "last_seen": started + timedelta(seconds=2),
            "queue": "q",
            "handler": "q",
            "message": "M",
            "error": "ValueError",
            "reason": "r2",
        }
        assert (second["fingerprint"], second["count"]) == ("f2", 1)

    async def test_a_dead_letter_is_changed_and_removed_by_its_id(
        self, read_store: ReadStore
    ) -> None:
        for id in ("q/1", "q/2", "q/3"):
            await read_store.add_dead_letter(letter(id))
        assert await read_store.change_dead_letter("q/2", {"headers": {"a.b": "$c"}})
        assert not await read_store.change_dead_letter("q/9", {"headers": {}})
        assert await read_store.remove_dead_letters(["q/1", "q/3", "q/9"]) == 2
        assert await read_store.remove_dead_letters([]) == 0
        (left,) = await read_store.dead_letters()
        assert (left["_id"], left["headers"], left["body"]) == ("q/2", {"a.b": "$c"}, b"x")


class Ticking(clock.Source):
    """A clock that a test moves on, by a second."""

    def __init__(self) -> None:
        super().__init__()
        self._now = float(int(super().seconds()))

    def seconds(self) -> float:
        return self._now

    def tick(self) -> None:
        self._now += 1


def letter(id: str, **fields: Any) -> Document:
    """A dead letter as the delivery makes it, with `fields` of the test's own."""
    return {
        "_id": id,
        "queue": "q",
        "handler": "q",
        "message": "M",
        "headers": {},
        "body": b"x",
        "error": "ValueError",
        "reason": "r",
        "frames": ["file.py:1 function"],
        "fingerprint": "f1",
        "attempts": 4,
        "time": clock.now(),
        **fields,
    }


async def ids(store: ReadStore, **selection: Any) -> list[str]:
    """The ids of the dead letters that a selection finds, in its order."""
    return [one["_id"] for one in await store.dead_letters(**selection)]


async def all_of(store: ReadStore, target: Target) -> list[Document]:
    """All documents that show, by key."""
    return await store.documents(target).find({}, sort=[("_id", 1)])

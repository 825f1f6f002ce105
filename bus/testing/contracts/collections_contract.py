"""What every place for documents promises: transactions over documents and versions.

Subclasses provide the fixture `collections`, open and empty, and close it. What else a place can
do has contracts of its own.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.data.payload import Document
from bus.errors import (
    InvalidMessage,
    ProjectionError,
)
from bus.stores.collections import (
    ChangeFeed,
    Changes,
    Collections,
    Comparable,
    Index,
    LoadsInBulk,
    ReadUnit,
    Target,
    Watchable,
    Write,
    Writer,
)
from bus.testing.contracts.documents.documents_contract import (
    Place,
    Update,
    all_of,
    changing,
    counting,
)


class CollectionsContract(Place):
    """Documents and versions, changed together or not at all."""

    async def test_changes_are_written_with_their_versions(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        fold = changing(("a", {"$set": {"n": 1}}), ("b", {"$inc": {"n": 5}}), a=3, b=1)
        changes = await writer.transact(["job-a", "job-b", "job-c"], fold)
        assert changes.versions == {"job-a": 3, "job-b": 1}
        streams = ["job-c", "job-b", "job-a"]
        assert await collections.versions(target, streams) == {"job-a": 3, "job-b": 1}
        assert await all_of(collections, target) == [{"_id": "a", "n": 1}, {"_id": "b", "n": 5}]

    async def test_what_was_reached_is_told_page_by_page(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        keys = ["a", "b", "c"]
        for number, key in enumerate(keys, 1):
            fold = changing((key, {"$set": {"n": 1}}), **{key: number})
            await writer.transact([f"job-{key}"], fold)
        names = keys if target.versions_in_documents else [f"job-{key}" for key in keys]
        first = await collections.reached(target, "", 2)
        assert first == {names[0]: 1, names[1]: 2}
        assert await collections.reached(target, names[1], 2) == {names[2]: 3}

    async def test_a_collection_that_is_made_again_has_another_identity(
        self, collections: Collections, target: Target
    ) -> None:
        before = await collections.identities()
        assert await collections.identities() == before
        some = await collections.identities([target.collection, "no such collection"])
        assert some == {target.collection: before[target.collection]}
        await collections.drop(target)
        assert target.collection not in await collections.identities()
        await collections.prepare(target)
        assert (await collections.identities())[target.collection] != before[target.collection]

    async def test_a_seal_is_replaced_by_none_of_an_earlier_turn(
        self, collections: Collections
    ) -> None:
        assert await collections.seal() == {}
        for turn, name in ((2, "b"), (1, "a"), (2, "c")):
            await collections.set_seal({"turn": turn, "name": name})
        assert await collections.seal() == {"turn": 2, "name": "c"}

    async def test_the_fold_is_told_the_versions_reached(self, writer: Writer) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
        seen: dict[str, int] = {}

        async def fold(unit: ReadUnit) -> Changes:
            seen.update(unit.versions)
            return Changes([], {})

        await writer.transact(["job-a", "job-b"], fold)
        assert seen == {"job-a": 3, "job-b": 0}

    async def test_a_dropped_target_is_as_if_it_had_never_been(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        other = target._replace(projection="others", collection="others")
        await collections.prepare(other)
        for place in (target, other):
            own = collections.writer(place, f"queue of {place.collection}")
            await own.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
            await own.close()
        for _ in range(2):
            await collections.drop(target)
        assert await all_of(collections, target) == []
        assert await collections.versions(target, ["job-a"]) == {}
        assert await collections.versions(other, ["job-a"]) == {"job-a": 3}

    async def test_a_fold_that_raises_writes_nothing(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"n": 1}})
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await writer.transact(["job-a"], fold)
        assert await all_of(collections, target) == []
        assert await collections.versions(target, ["job-a"]) == {}
        await writer.transact(["job-a"], counting(2))
        assert await all_of(collections, target) == [{"_id": "a", "n": 2}]

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
        self, collections: Collections, target: Target, writer: Writer, wrong: Any
    ) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"text": "x"}}), a=1))
        with pytest.raises(ProjectionError):
            await writer.transact(
                ["job-a", "job-b"], changing(("b", {"$set": {"n": 1}}), ("a", wrong), a=2, b=1)
            )
        assert await all_of(collections, target) == [{"_id": "a", "text": "x"}]
        assert await collections.versions(target, ["job-a", "job-b"]) == {"job-a": 1}

    async def test_updates_of_one_document_apply_in_order(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        updates: list[Update | None] = [
            {"$set": {"first": 1}, "$setOnInsert": {"made": 1}},
            {"$push": {"list": "x"}},
            {"$push": {"list": "y"}, "$unset": {"first": ""}, "$inc": {"n": 2}},
        ]
        await writer.transact(["job-a"], changing(*[("a", update) for update in updates], a=3))
        expected = {"_id": "a", "made": 1, "list": ["x", "y"], "n": 2}
        assert await all_of(collections, target) == [expected]

    async def test_a_stream_without_a_document_has_a_version_and_shows_nothing(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], changing(a=4))
        assert await collections.versions(target, ["job-a"]) == {"job-a": 4}
        documents = collections.documents(target)
        assert await documents.find({}) == []
        assert await documents.find_one({"_id": "a"}) is None
        assert await documents.count({}) == 0

    async def test_a_document_made_after_a_stub_or_a_delete_is_new_to_its_author(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        make = {"$setOnInsert": {"made": 1}, "$inc": {"n": 1}, "$unset": {"x": ""}}
        await writer.transact(["job-a"], changing(a=1))
        await writer.transact(["job-a"], changing(("a", make), a=2))
        assert await all_of(collections, target) == [{"_id": "a", "made": 1, "n": 1}]
        await writer.transact(["job-a"], changing(("a", None), ("a", make), ("a", make), a=5))
        assert await all_of(collections, target) == [{"_id": "a", "made": 1, "n": 2}]

    async def test_a_deleted_document_keeps_its_version(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], counting(2))
        await writer.transact(["job-a"], changing(("a", None), a=3))
        assert await all_of(collections, target) == []
        assert await collections.versions(target, ["job-a"]) == {"job-a": 3}
        await writer.transact(["job-a"], counting(2))
        assert await all_of(collections, target) == []
        await writer.transact(["job-a"], changing(("a", None), a=4))
        await writer.transact(["job-a"], counting(5))
        assert await all_of(collections, target) == [{"_id": "a", "n": 1}]

    async def test_a_version_advances_without_touching_the_document(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], counting(1))
        await writer.transact(["job-a"], changing(a=7))
        assert await all_of(collections, target) == [{"_id": "a", "n": 1}]
        assert await collections.versions(target, ["job-a"]) == {"job-a": 7}

    async def test_a_fold_reads_its_own_writes(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a", "job-b"], changing(("a", {"$set": {"n": 1}}), a=1, b=1))

        async def fold(unit: ReadUnit) -> Changes:
            documents = unit.documents
            await documents.update("a", {"$inc": {"n": 1}})
            await documents.update("b", {"$setOnInsert": {"made": 1}})
            found = await documents.find({}, sort=[("_id", -1)])
            assert found == [{"_id": "b", "made": 1}, {"_id": "a", "n": 2}]
            assert await all_of(collections, target) == [{"_id": "a", "n": 1}]
            await documents.delete("a")
            assert await documents.find_one({"_id": "a"}) is None
            assert await documents.count({}) == 1
            return Changes([Write("b", {"$set": {"n": 3}})], {"job-a": 2, "job-b": 2})

        await writer.transact(["job-a", "job-b"], fold)
        assert await all_of(collections, target) == [{"_id": "b", "made": 1, "n": 3}]
        assert await collections.versions(target, ["job-a", "job-b"]) == {"job-a": 2, "job-b": 2}

    @pytest.mark.parametrize("known", [0, 2])
    async def test_of_two_writers_the_later_one_folds_again_on_fresh_versions(
        self, collections: Collections, target: Target, writer: Writer, known: int
    ) -> None:
        if known:
            await writer.transact(["job-a"], counting(known))
        zombie = collections.writer(target, "another queue")
        seen: list[int] = []

        async def fold(unit: ReadUnit) -> Changes:
            seen.append(unit.versions["job-a"])
            if len(seen) == 1:
                await writer.transact(["job-a"], counting(3))
            return await counting(4)(unit)

        await zombie.transact(["job-a"], fold)
        await zombie.close()
        assert seen == [known, 3]
        assert await all_of(collections, target) == [{"_id": "a", "n": 4}]
        assert await collections.versions(target, ["job-a"]) == {"job-a": 4}

    @pytest.mark.parametrize("believed", [0, 1, 2, 3, 4])
    @pytest.mark.parametrize("known", [0, 2, 4])
    async def test_what_is_believed_of_a_stream_decides_nothing(
        self, collections: Collections, target: Target, writer: Writer, known: int, believed: int
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
        assert await all_of(collections, target) == [{"_id": "a", "n": 5}, {"_id": "b", "n": 2}]
        assert await collections.versions(target, ["job-a", "job-b"]) == {"job-a": 5, "job-b": 2}

    async def test_a_hidden_document_shows_again_whatever_was_believed(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        make: dict[str, Any] = {"$setOnInsert": {"made": True}, "$inc": {"n": 1}}
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 7}}), a=1))
        await writer.transact(["job-a"], changing(("a", None), a=2), believed={"job-a": 1})
        await writer.transact(["job-b"], changing(b=1), believed={"job-b": 0})
        await writer.transact(["job-b"], changing(b=2), believed={"job-b": 1})
        assert await all_of(collections, target) == []
        fold = changing(("a", make), ("b", make), a=3, b=3)
        await writer.transact(["job-a", "job-b"], fold, believed={"job-a": 2, "job-b": 2})
        made = {"made": True, "n": 1}
        assert await all_of(collections, target) == [{"_id": "a", **made}, {"_id": "b", **made}]
        assert await collections.versions(target, ["job-a", "job-b"]) == {"job-a": 3, "job-b": 3}

    async def test_many_writers_that_believe_what_they_like_apply_each_event_once(
        self, collections: Collections, target: Target
    ) -> None:
        writers = [collections.writer(target, f"queue {n}") for n in range(4)]

        async def work(writer: Writer) -> None:
            for version in range(1, 8):
                believed = {"job-a": version - 1}
                await writer.transact(["job-a"], counting(version), believed=believed)

        await asyncio.gather(*map(work, writers))
        for writer in writers:
            await writer.close()
        assert await all_of(collections, target) == [{"_id": "a", "n": 7}]

    async def test_many_writers_apply_each_event_once(
        self, collections: Collections, target: Target
    ) -> None:
        writers = [collections.writer(target, f"queue {n}") for n in range(4)]
        keys = ["a", "b", "c"]

        async def work(writer: Writer) -> None:
            for version in range(1, 8):
                for key in keys:
                    await writer.transact([f"job-{key}"], counting(version, key))

        await asyncio.gather(*map(work, writers))
        for writer in writers:
            await writer.close()
        assert await all_of(collections, target) == [{"_id": key, "n": 7} for key in keys]

    async def test_a_unique_index_refuses_what_it_must_and_hidden_documents_never(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await collections.prepare(target._replace(indexes=(Index((("name", 1),), unique=True),)))
        writes = [(key, {"$set": {"name": key}}) for key in ("a", "b")]
        await writer.transact([], changing(*writes, a=1, b=1))
        await writer.transact([], changing(("a", None), ("b", None), a=2, b=2, c=1, d=1))
        await writer.transact([], changing(*writes, a=3, b=3))
        with pytest.raises(ProjectionError):
            await writer.transact([], changing(("a", {"$set": {"name": "b"}}), a=4))
        assert await collections.versions(target, ["job-a"]) == {"job-a": 3}

    async def test_preparing_twice_does_no_harm(
        self, collections: Collections, target: Target
    ) -> None:
        indexes = (Index((("n", 1), ("m", -1))), Index((("title", "text"),)))
        for _ in range(2):
            await collections.prepare(target._replace(indexes=indexes))

    async def test_projections_share_no_versions(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await writer.transact([], changing(a=3))
        other = target._replace(projection="other", collection="other")
        assert await collections.versions(other, ["job-a"]) == {}


class LoadsInBulkContract(Place):
    """Documents that come in without transactions."""

    async def test_whole_documents_are_inserted_and_those_that_stand_there_stay(
        self, collections: LoadsInBulk, target: Target, writer: Writer
    ) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
        new = [{"_id": key, "n": 9, "_version": 7} for key in ("a", "b", "c")]
        await collections.insert(target, new)
        documents = await all_of(collections, target)
        shown = [(document["_id"], document["n"]) for document in documents]
        assert shown == [("a", 1), ("b", 9), ("c", 9)]
        if target.versions_in_documents:
            reached = await collections.versions(target, ["job-a", "job-b"])
            assert reached == {"job-a": 3, "job-b": 7}

    async def test_a_document_that_cannot_be_inserted_is_refused(
        self, collections: LoadsInBulk, target: Target
    ) -> None:
        with pytest.raises((ProjectionError, InvalidMessage)):
            await collections.insert(target, [{"_id": "a", "n": 2**70}])


class ComparableContract(Place):
    """Whole documents, read and put right."""

    async def test_whole_documents_are_read_by_page_by_key_and_at_random(
        self, collections: Comparable, target: Target
    ) -> None:
        documents: list[Document] = [
            {"_id": key, "_version": 1, "n": key} for key in ("é", "b", "a", "c")
        ]
        for document in (*documents, {"_id": "d", "_hidden": True, "_version": 2}):
            assert await collections.replace(target, document["_id"], None, document)
        first = await collections.page(target, "", 2)
        assert first == [documents[2], documents[1]]
        rest = await collections.page(target, "b", 9)
        assert [document["_id"] for document in rest] == ["c", "d", "é"]
        assert rest[1] == {"_id": "d", "_hidden": True, "_version": 2}
        assert await collections.whole(target, ["a", "x"]) == {"a": documents[2]}
        chosen = await collections.sample(target, 3)
        assert len(set(chosen)) == 3
        assert set(chosen) < {"a", "b", "c", "d", "é"}
        assert len(await collections.sample(target, 9)) == 5

    async def test_a_document_is_replaced_only_where_it_stands_unchanged(
        self, collections: Comparable, target: Target
    ) -> None:
        first, second = {"_id": "a", "n": 1, "of": {"x": "$n"}}, {"_id": "a", "n": 2}
        assert await collections.replace(target, "a", None, first)
        assert not await collections.replace(target, "a", None, second)
        assert not await collections.replace(target, "a", second, first)
        assert await collections.replace(target, "a", first, second)
        assert await collections.whole(target, ["a"]) == {"a": second}
        assert not await collections.replace(target, "a", first, None)
        assert await collections.replace(target, "a", second, None)
        assert await collections.whole(target, ["a"]) == {}


class WatchableContract(Place):
    """Feeds of changes."""

    @pytest.fixture
    async def feed(self, collections: Watchable, target: Target) -> AsyncIterator[ChangeFeed]:
        """A feed of the target's changes, before its first call."""
        feed = collections.changes(target)
        yield feed
        await feed.close()

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
        self, collections: Watchable, feed: ChangeFeed
    ) -> None:
        assert await feed.changed()
        other = Target("others", "others", False)
        await collections.prepare(other)
        writer = collections.writer(other, "queue")
        await writer.transact([], changing(("a", {"$set": {"n": 1}}), a=1))
        await writer.close()
        assert not await feed.changed()

    async def test_a_feed_tells_when_its_target_is_dropped_and_goes_on_with_the_next(
        self, collections: Watchable, target: Target, feed: ChangeFeed, writer: Writer
    ) -> None:
        await writer.transact([], changing(("a", {"$set": {"n": 1}}), a=1))
        assert await feed.changed()
        await collections.drop(target)
        assert await feed.changed()
        while await feed.changed():
            pass
        await collections.prepare(target)
        await writer.transact([], changing(("b", {"$set": {"n": 1}}), b=1))
        assert await feed.changed()

"""What every place for documents promises: transactions over documents and versions.

Subclasses give the fixture `read_store`, open and empty; they close it.
"""

import asyncio
from typing import Any

import pytest

from bus.common import clock
from bus.errors import ProjectionError
from bus.stores.collections import (
    Changes,
    Index,
    ReadUnit,
    Target,
    Write,
    Writer,
)
from bus.stores.control import Note, Parked
from bus.stores.read_store import ReadStore
from bus.testing.contracts.documents_contract import (
    Place,
    Update,
    all_of,
    changing,
    counting,
)


class CollectionsContract(Place):
    """Documents and versions, changed together or not at all."""

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

    async def test_a_dropped_target_is_as_if_it_had_never_been(
        self, read_store: ReadStore, target: Target, writer: Writer
    ) -> None:
        other = target._replace(projection="others", collection="others")
        await read_store.prepare(other)
        for one in (target, other):
            own = read_store.writer(one, f"queue of {one.collection}")
            await own.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
            await own.close()
            await read_store.park(
                one, Parked(stream="job-b", version=1, error="Error", tries=1, next_try=clock.now())
            )
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

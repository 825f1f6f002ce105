"""What every read store promises: the contracts of its parts, and of what it can do besides.

Subclasses give the fixture `read_store`, open and empty; they close it.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bus.errors import InvalidMessage, ProjectionError
from bus.stores.collections import (
    ChangeFeed,
    Target,
    Writer,
)
from bus.stores.read_store import ReadStore
from bus.testing.contracts.collections_contract import CollectionsContract
from bus.testing.contracts.control_contract import ControlContract
from bus.testing.contracts.documents_contract import (
    DocumentsContract,
    Place,
    all_of,
    changing,
)
from bus.testing.contracts.updates_contract import UpdatesContract
from bus.testing.contracts.values_contract import ValuesContract


class LoadsInBulkContract(Place):
    """Documents that come in without transactions."""

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


class ComparableContract(Place):
    """Whole documents, read and put right."""

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


class WatchableContract(Place):
    """Feeds of changes."""

    @pytest.fixture
    async def feed(self, read_store: ReadStore, target: Target) -> AsyncIterator[ChangeFeed]:
        """A feed of the target's changes, which nobody has asked yet."""
        feed = read_store.changes(target)
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


class ReadStoreContract(
    CollectionsContract,
    DocumentsContract,
    ValuesContract,
    UpdatesContract,
    LoadsInBulkContract,
    ComparableContract,
    WatchableContract,
    ControlContract,
):
    """A store that can do everything."""

import asyncio
import time
from typing import Any

import pytest

from bus.errors import ConfigurationError
from bus.stores.collections import Changes, Collections, Index, ReadUnit, Target
from bus.stores.memory import MemoryCollections
from bus.stores.mongo import MongoCollections, close, connect
from bus.testing.contracts.collections_contract import (
    CollectionsContract,
    ComparableContract,
    LoadsInBulkContract,
    WatchableContract,
)
from bus.testing.contracts.documents.documents_contract import (
    DocumentsContract,
    all_of,
    changing,
    counting,
)
from bus.testing.contracts.documents.updates_contract import UpdatesContract
from bus.testing.contracts.documents.values_contract import ValuesContract
from tests.waiting import patience


class AllContracts(
    CollectionsContract,
    DocumentsContract,
    ValuesContract,
    UpdatesContract,
    LoadsInBulkContract,
    ComparableContract,
    WatchableContract,
):
    """For a place that can do everything."""


class TestMemoryCollections(AllContracts):
    @pytest.fixture
    async def collections(self) -> Collections:
        return MemoryCollections()


class MongoCollectionsContract(AllContracts):
    async def test_processes_that_start_together_do_not_disturb_each_other(
        self, mongo_url: str, unique: str
    ) -> None:
        clients = [connect(mongo_url) for _ in range(8)]
        name = f"{unique}_together"
        try:
            stores = [MongoCollections(client, name) for client in clients]
            await asyncio.gather(*(store.open() for store in stores))
            target = Target("jobs", "jobs", True, (Index((("title", "text"),)),))
            await asyncio.gather(*(store.prepare(target) for store in stores))
        finally:
            await clients[0].drop_database(name)
            for client in clients:
                await close(client)

    async def test_taking_over_frees_an_abandoned_transactions_locks_at_once(
        self, collections: Collections, target: Target
    ) -> None:
        abandoned = collections.writer(target, "queue")
        locked, forever = asyncio.Event(), asyncio.Event()
        tries: list[int] = []

        async def fold(unit: ReadUnit) -> Changes:
            tries.append(unit.versions["job-a"])
            await unit.documents.update("a", {"$set": {"lost": True}})
            locked.set()
            await forever.wait()
            return await counting(2)(unit)

        zombie = asyncio.create_task(abandoned.transact(["job-a"], fold))
        await asyncio.wait_for(locked.wait(), 30)

        heir = collections.writer(target, "queue")
        started = time.monotonic()
        await heir.take_over()
        await heir.transact(["job-a"], counting(3))
        assert time.monotonic() - started < 2 * patience()

        forever.set()
        await zombie
        assert tries == [0, 3]
        (document,) = await all_of(collections, target)
        assert document["n"] == 3
        await abandoned.close()
        await heir.close()

    async def test_what_begins_late_in_a_predecessors_session_is_ended_as_well(
        self, collections: Collections, target: Target
    ) -> None:
        """What a process sent before it was killed reaches the server after its heir took over."""
        killed, heir = collections.writer(target, "queue"), collections.writer(target, "queue")
        await killed.take_over()
        await heir.take_over()
        locked, forever = asyncio.Event(), asyncio.Event()

        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"lost": True}})
            locked.set()
            await forever.wait()
            return await counting(2)(unit)

        late = asyncio.create_task(killed.transact(["job-a"], fold))
        await asyncio.wait_for(locked.wait(), 30)
        await heir.transact(["job-a"], counting(3))  # else StoreUnavailable, after 15 s
        forever.set()
        await late
        (document,) = await all_of(collections, target)
        assert document["n"] == 3
        await killed.close()
        await heir.close()

    async def test_a_cancelled_transaction_leaves_no_locks(
        self, collections: Collections, target: Target
    ) -> None:
        writer = collections.writer(target, "queue")
        locked = asyncio.Event()

        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"lost": True}})
            locked.set()
            await asyncio.Event().wait()
            raise AssertionError("never reached")

        task = asyncio.create_task(writer.transact(["job-a"], fold))
        await asyncio.wait_for(locked.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(writer.transact(["job-a"], counting(1)), 30)
        assert await all_of(collections, target) == [{"_id": "a", "n": 1}]
        await writer.close()

    async def test_a_projection_may_not_take_the_buss_own_collections(
        self, collections: Collections
    ) -> None:
        with pytest.raises(ConfigurationError, match="commits"):
            await collections.prepare(Target("jobs", "commits", True))

    async def test_text_is_searched(self, collections: Collections) -> None:
        target = Target("jobs", "jobs", True, (Index((("title", "text"),)),))
        await collections.prepare(target)
        writer = collections.writer(target, "queue")
        titles = {"a": "a cook", "b": "a waiter", "c": "a cook and cook"}
        writes = [(key, {"$set": {"title": title}}) for key, title in titles.items()]
        await writer.transact([], changing(*writes, a=1, b=1, c=1))
        await writer.close()
        found = await collections.documents(target).find(
            {"$text": {"$search": "cook"}}, sort=[("score", {"$meta": "textScore"})]
        )
        assert [one["_id"] for one in found] == ["c", "a"]


class TestMongoCollectionsByMotor(MongoCollectionsContract):
    @pytest.fixture
    async def collections(self, motor_client: Any, unique: str) -> Collections:
        collections = MongoCollections(motor_client, unique)
        await collections.open()
        return collections


class TestMongoCollectionsByPyMongo(MongoCollectionsContract):
    @pytest.fixture
    async def collections(self, pymongo_client: Any, unique: str) -> Collections:
        collections = MongoCollections(pymongo_client, unique)
        await collections.open()
        return collections

import asyncio
import time
from typing import Any

import pytest

from bus.errors import ConfigurationError
from bus.stores.collections import Changes, Index, ReadUnit, Target
from bus.stores.memory import MemoryReadStore
from bus.stores.mongo import MongoReadStore, close, connect
from bus.stores.read_store import ReadStore
from bus.testing.contracts.control_contract import letter
from bus.testing.contracts.documents_contract import all_of, changing, counting
from bus.testing.contracts.read_store_contract import ReadStoreContract
from tests.waiting import patience


class TestMemoryReadStore(ReadStoreContract):
    @pytest.fixture
    async def read_store(self) -> ReadStore:
        return MemoryReadStore()


class MongoReadStoreContract(ReadStoreContract):
    async def test_processes_that_start_together_do_not_disturb_each_other(
        self, mongo_url: str, unique: str
    ) -> None:
        clients = [connect(mongo_url) for _ in range(8)]
        name = f"{unique}_together"
        try:
            stores = [MongoReadStore(client, name) for client in clients]
            await asyncio.gather(*(store.open() for store in stores))
            target = Target("jobs", "jobs", True, (Index((("title", "text"),)),))
            await asyncio.gather(*(store.prepare(target) for store in stores))
        finally:
            await clients[0].drop_database(name)
            for client in clients:
                await close(client)

    async def test_taking_over_frees_an_abandoned_transactions_locks_at_once(
        self, read_store: ReadStore, target: Target
    ) -> None:
        abandoned = read_store.writer(target, "queue")
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

        heir = read_store.writer(target, "queue")
        started = time.monotonic()
        await heir.take_over()
        await heir.transact(["job-a"], counting(3))
        assert time.monotonic() - started < 2 * patience()

        forever.set()
        await zombie
        assert tries == [0, 3]
        (document,) = await all_of(read_store, target)
        assert document["n"] == 3
        await abandoned.close()
        await heir.close()

    async def test_a_cancelled_transaction_leaves_no_locks(
        self, read_store: ReadStore, target: Target
    ) -> None:
        writer = read_store.writer(target, "queue")
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
        assert await all_of(read_store, target) == [{"_id": "a", "n": 1}]
        await writer.close()

    async def test_a_projection_may_not_take_the_buss_own_collections(
        self, read_store: ReadStore
    ) -> None:
        with pytest.raises(ConfigurationError, match="commits"):
            await read_store.prepare(Target("jobs", "commits", True))

    @pytest.mark.parametrize(("field", "value"), [("headers.stream", "job-a"), ("queue", "q")])
    async def test_the_dead_letters_of_a_stream_or_queue_are_found_by_an_index(
        self, read_store: ReadStore, motor_client: Any, unique: str, field: str, value: str
    ) -> None:
        await read_store.add_dead_letter(letter("q/1", headers={"stream": "job-a"}))
        where = {field: value}
        assert len(await read_store.dead_letters(where=where)) == 1
        order = {"last_seen": -1, "_id": 1}
        command = {"find": "dead_letters", "filter": where, "sort": order}
        told = await motor_client[unique].command("explain", command)
        assert f"{field}_1" in str(told["queryPlanner"]["winningPlan"])

    async def test_text_is_searched(self, read_store: ReadStore) -> None:
        from bus.stores.collections import Index

        target = Target("jobs", "jobs", True, (Index((("title", "text"),)),))
        await read_store.prepare(target)
        writer = read_store.writer(target, "queue")
        titles = {"a": "a cook", "b": "a waiter", "c": "a cook and cook"}
        writes = [(key, {"$set": {"title": title}}) for key, title in titles.items()]
        await writer.transact([], changing(*writes, a=1, b=1, c=1))
        await writer.close()
        found = await read_store.documents(target).find(
            {"$text": {"$search": "cook"}}, sort=[("score", {"$meta": "textScore"})]
        )
        assert [one["_id"] for one in found] == ["c", "a"]


class TestMongoReadStoreByMotor(MongoReadStoreContract):
    @pytest.fixture
    async def read_store(self, motor_client: Any, unique: str) -> ReadStore:
        store = MongoReadStore(motor_client, unique)
        await store.open()
        return store


class TestMongoReadStoreByPyMongo(MongoReadStoreContract):
    @pytest.fixture
    async def read_store(self, pymongo_client: Any, unique: str) -> ReadStore:
        store = MongoReadStore(pymongo_client, unique)
        await store.open()
        return store

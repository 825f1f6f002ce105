import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pymongo
import pytest

from bus.stores.base import EventLog
from bus.stores.memory import MemoryEventLog
from bus.stores.mongo import MongoEventLog
from bus.testing.event_log_contract import EventLogContract, commit, events_of, outcome


class TestMemoryEventLog(EventLogContract):
    @pytest.fixture
    async def event_log(self) -> EventLog:
        return MemoryEventLog()


class MongoEventLogContract(EventLogContract):
    async def test_a_commit_nested_too_deeply_is_refused_alone(self, event_log: EventLog) -> None:
        deep: object = 1
        for _ in range(300):
            deep = [deep]
        good = [commit(f"good{n}", f"good-{n}") for n in range(5)]
        await event_log.append(good[:1])
        kinds = ["repeat of {'version': 1}", *["stored"] * 4, "InvalidMessage"]
        commits = [*good, commit("bad", "bad-1", result=deep)]
        got = await asyncio.gather(*[outcome(event_log, [one]) for one in commits])
        assert got == kinds

    async def test_a_callers_deadline_is_of_that_caller_alone(self, event_log: EventLog) -> None:
        with pymongo.timeout(0.001):
            await asyncio.sleep(0.01)
            hurried = asyncio.create_task(event_log.append([commit("a", "job-1")]))
        await asyncio.sleep(0)
        await event_log.append([commit("b", "job-2")])
        with pymongo.timeout(0.001):
            await asyncio.sleep(0.01)
            hurried_load = asyncio.create_task(events_of(event_log, "job-1"))
        await asyncio.sleep(0)
        assert len(await events_of(event_log, "job-2")) == 1
        await asyncio.gather(hurried, hurried_load, return_exceptions=True)

    async def test_opening_again_keeps_everything(self, event_log: EventLog) -> None:
        await event_log.append([commit("a")])
        await event_log.open()
        assert len(await event_log.read("job-1")) == 1


class TestMongoEventLogByMotor(MongoEventLogContract):
    @pytest.fixture
    async def event_log(self, motor_client: Any, unique: str) -> AsyncIterator[EventLog]:
        log = MongoEventLog(motor_client, unique)
        await log.open()
        yield log
        await log.close()


class TestMongoEventLogByPyMongo(MongoEventLogContract):
    @pytest.fixture
    async def event_log(self, pymongo_client: Any, unique: str) -> AsyncIterator[EventLog]:
        log = MongoEventLog(pymongo_client, unique)
        await log.open()
        yield log
        await log.close()

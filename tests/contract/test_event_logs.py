import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern

from bus.stores.event_log import EventLog
from bus.stores.memory import MemoryEventLog
from bus.stores.mongo import MongoEventLog
from bus.stores.mongo.log import PAGE
from bus.stores.records import commit_document, state_document
from bus.testing.contracts.event_log_contract import (
    TIME,
    EventLogContract,
    commit,
    events_of,
    next_of,
    outcome,
)
from bus.testing.contracts.moving_contract import MovingContract
from bus.testing.contracts.states_contract import StatesContract, state
from tests.contract.sql_logs import opened


class TestMemoryEventLog(EventLogContract, StatesContract, MovingContract):
    @pytest.fixture
    async def event_log(self) -> EventLog:
        return MemoryEventLog()


class MongoEventLogContract(EventLogContract, StatesContract, MovingContract):
    async def test_the_indexes_of_states_are_those_declared(
        self, event_log: EventLog, motor_client: Any, unique: str
    ) -> None:
        async def names() -> set[str]:
            return set(await motor_client[unique]["states"].index_information())

        await event_log.prepare_states("order", ["status"])
        assert await names() >= {"job.status", "job.owner", "order.status"}
        await event_log.prepare_states("job", ["status", "city"])
        assert await names() == {
            "_id_", "category_1_schema_1", "job.status", "job.city", "order.status",
        }  # fmt: skip
        await event_log.forget_states("job")
        assert await names() == {"_id_", "category_1_schema_1", "order.status"}

    async def test_what_is_found_costs_as_many_keys_as_it_has_states(
        self, event_log: EventLog, motor_client: Any, unique: str
    ) -> None:
        states = [
            state(f"job-{n}", 1, status="open" if n % 100 == 0 else "closed") for n in range(1000)
        ]
        states += [state(f"other-{n}", 1, status="open") for n in range(1000)]
        states += [state(f"job-old{n}", 1, "7", status="done") for n in range(5)]
        await motor_client[unique]["states"].insert_many(map(state_document, states))
        await motor_client[unique].command("profile", 2)
        found = await event_log.states("job", {"status": "open"}, 100, shape="1")
        assert len(found) == 15
        assert len(await event_log.states("job", {"status": "open", "owner": "x"}, 100)) == 0
        profile = motor_client[unique]["system.profile"].find({"op": "query"})
        asked = [one for one in await profile.to_list(None) if one["command"]["find"] == "states"]
        assert [one["planSummary"] for one in asked if "COLLSCAN" in one["planSummary"]] == []
        assert max(one["keysExamined"] for one in asked) <= 20

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

    @pytest.mark.parametrize("categories", [["job"], ["job", "other", "none"]])
    async def test_a_page_of_a_scan_costs_as_many_keys_as_it_has_commits(
        self, event_log: EventLog, motor_client: Any, unique: str, categories: list[str]
    ) -> None:
        """Where thousands were stored at one time, too: what was read is not read again."""
        documents = [
            commit_document(commit(f"{category}{n}", f"{category}-{n}", time=TIME))
            for category in ("job", "other")
            for n in range(2500)
        ]
        await motor_client[unique]["commits"].insert_many(documents)
        await motor_client[unique].command("profile", 2)
        count = len([one async for one in event_log.scan(categories)])
        found = motor_client[unique]["system.profile"].find({"op": "query"})
        pages = [one for one in await found.to_list(None) if one["command"]["find"] == "commits"]
        assert count == 2500 * len({"job", "other"} & {*categories})
        assert len(pages) >= count / PAGE
        assert sum(one["keysExamined"] for one in pages) < 1.1 * count
        assert not any(one.get("hasSortStage") for one in pages)

    async def test_a_follower_gets_what_is_no_majoritys_yet_when_it_begins(
        self, event_log: EventLog, motor_client: Any, unique: str
    ) -> None:
        hurried = motor_client[unique]["commits"].with_options(write_concern=WriteConcern(1))
        for n in range(1, 21):
            written = commit(f"c{n}", f"job-{n}", time=TIME + timedelta(seconds=n))
            await hurried.insert_one(commit_document(written))
            async with aclosing(event_log.follow(100)) as following:
                assert (await next_of(following, n))[-1] == written


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


class TestPostgreSQLEventLog(EventLogContract, MovingContract, StatesContract):
    @pytest.fixture
    async def event_log(self, postgresql_url: str) -> AsyncIterator[EventLog]:
        async with opened(postgresql_url) as log:
            yield log


class TestMariaDBEventLog(EventLogContract, MovingContract, StatesContract):
    @pytest.fixture
    async def event_log(self, mariadb_url: str) -> AsyncIterator[EventLog]:
        async with opened(mariadb_url) as log:
            yield log


class TestMySQLEventLog(EventLogContract, MovingContract, StatesContract):
    @pytest.fixture
    async def event_log(self, mysql_url: str) -> AsyncIterator[EventLog]:
        async with opened(mysql_url) as log:
            yield log

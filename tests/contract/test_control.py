from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.stores.control import Control
from bus.stores.memory import MemoryControl
from bus.stores.mongo import MongoControl
from bus.stores.sql import SqlControl, connect
from bus.testing.contracts.control_contract import ControlContract, letter


class TestMemoryControl(ControlContract):
    @pytest.fixture
    async def control(self) -> Control:
        return MemoryControl()


class MongoControlContract(ControlContract):
    @pytest.mark.parametrize(("field", "value"), [("headers.stream", "job-a"), ("queue", "q")])
    async def test_the_dead_letters_of_a_stream_or_queue_are_found_by_an_index(
        self, control: Control, motor_client: Any, unique: str, field: str, value: str
    ) -> None:
        await control.add_dead_letter(letter("q/1", headers={"stream": "job-a"}))
        where = {field: value}
        assert len(await control.dead_letters(where=where)) == 1
        order = {"last_seen": -1, "_id": 1}
        command = {"find": "dead_letters", "filter": where, "sort": order}
        told = await motor_client[unique].command("explain", command)
        assert f"{field}_1" in str(told["queryPlanner"]["winningPlan"])


class TestMongoControlByMotor(MongoControlContract):
    @pytest.fixture
    async def control(self, motor_client: Any, unique: str) -> Control:
        control = MongoControl(motor_client, unique)
        await control.open()
        return control


class TestMongoControlByPyMongo(MongoControlContract):
    @pytest.fixture
    async def control(self, pymongo_client: Any, unique: str) -> Control:
        control = MongoControl(pymongo_client, unique)
        await control.open()
        return control


class SqlControlContract(ControlContract):
    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def control(self, url: str) -> AsyncIterator[Control]:
        engine = connect(url)
        control = SqlControl(engine)
        await control.open()
        yield control
        await engine.dispose()


class TestPostgreSQLControl(SqlControlContract):
    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return postgresql_url


class TestMariaDBControl(SqlControlContract):
    @pytest.fixture
    def url(self, mariadb_url: str) -> str:
        return mariadb_url


class TestMySQLControl(SqlControlContract):
    @pytest.fixture
    def url(self, mysql_url: str) -> str:
        return mysql_url

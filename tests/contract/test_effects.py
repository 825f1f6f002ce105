from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.stores.event_log import EventLog
from bus.stores.memory import MemoryCollections, MemoryEventLog
from bus.stores.memory.effects import MemoryEffects
from bus.stores.mongo import MongoEffects, MongoEventLog
from bus.stores.session import Effects
from bus.testing.contracts.effects_contract import EffectsContract

KNOWN: dict[str, Any] = {"projected": ["wallets"], "handled_for": 3600}


class TestMemoryEffects(EffectsContract):
    @pytest.fixture
    def event_log(self) -> EventLog:
        return MemoryEventLog()

    @pytest.fixture
    def effects(self, event_log: MemoryEventLog) -> Effects:
        return MemoryEffects(event_log, MemoryCollections(), **KNOWN)


class TestMongoEffectsByMotor(EffectsContract):
    @pytest.fixture
    async def event_log(self, motor_client: Any, unique: str) -> AsyncIterator[EventLog]:
        log = MongoEventLog(motor_client, unique)
        await log.open()
        yield log
        await log.close()

    @pytest.fixture
    async def effects(
        self, motor_client: Any, unique: str, event_log: MongoEventLog
    ) -> AsyncIterator[Effects]:
        effects = MongoEffects(motor_client, unique, event_log, **KNOWN)
        await effects.open()
        yield effects
        await effects.close()


class TestMongoEffectsByPyMongo(TestMongoEffectsByMotor):
    @pytest.fixture
    def motor_client(self, pymongo_client: Any) -> Any:
        return pymongo_client

from types import SimpleNamespace

import pytest

from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.testing.contracts.projection_contract import ProjectionContract, Stores


class TestProjectionsInMemory(ProjectionContract):
    @pytest.fixture
    async def stores(self) -> Stores:
        event_log, read_store = MemoryEventLog(), MemoryReadStore()
        await read_store.open()
        return SimpleNamespace(event_log=event_log, read_store=read_store)

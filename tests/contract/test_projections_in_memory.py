from types import SimpleNamespace

import pytest

from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.testing.contracts.projection_contract import ProjectionContract, Stores


class TestProjectionsInMemory(ProjectionContract):
    @pytest.fixture
    async def stores(self) -> Stores:
        return SimpleNamespace(
            event_log=MemoryEventLog(), collections=MemoryCollections(), control=MemoryControl()
        )

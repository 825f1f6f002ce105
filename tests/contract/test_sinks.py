"""The sink in memory keeps the contract of sinks; tests/contract/test_sql_tables.py has tables."""

from collections.abc import Sequence

import pytest

from bus.stores.sink import Place, Sink
from bus.stores.sinks.memory import MemoryPlace, MemorySink
from bus.testing.contracts.sink_contract import Rows, SinkContract


class TestMemorySink(SinkContract):
    @pytest.fixture
    def sink(self) -> Sink:
        return MemorySink()

    @pytest.fixture
    async def places(self, sink: Sink) -> Sequence[Place]:
        return [sink.place("service"), sink.place("service")]

    async def shown(self, place: Place, name: str) -> Rows | None:
        assert isinstance(place, MemoryPlace)
        return place.find(name)

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from bus import Bus, Settings
from bus.backend import Backend
from bus.settings import MEMORY
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.stores.memory_effects import MemoryEffects
from bus.transports.memory import MemoryBroker, MemoryTransport
from tests.service.audit_contract import AuditContract
from tests.service.rebuild_contract import RebuildContract, service


class Shared(Settings):
    """Every bus that is made with it stands on the same broker and stores."""

    _ground: tuple[MemoryBroker, MemoryEventLog, MemoryReadStore]

    def backend(self, service: str, projected: Sequence[str]) -> Backend:
        broker, log, store = self._ground
        effects = MemoryEffects(log, store, projected=projected, handled_for=60)
        return Backend(MemoryTransport(broker, service), log, store, effects, _nothing)


async def _nothing() -> None:
    """There is no connection to close."""


@pytest.fixture
def make(unique: str) -> Callable[..., Bus]:
    settings = Shared(amqp_url=MEMORY, mongo_url=MEMORY)
    settings._ground = MemoryBroker(), MemoryEventLog(), MemoryReadStore()
    return partial(service, settings, unique)


class TestRebuildInMemory(RebuildContract): ...


class TestAuditInMemory(AuditContract): ...

from collections.abc import Callable, Sequence

import pytest

from bus import Bus, Settings
from bus.backend import Backend
from bus.settings import MEMORY
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.stores.memory_effects import MemoryEffects
from bus.stores.memory_log import MemoryFollowedLog
from bus.transports.memory import MemoryBroker, MemoryTransport
from tests.service.following_contract import FollowingContract, bank, shop


class Ground:
    """A broker, and for each service stores of its own."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.stores: dict[str, tuple[MemoryEventLog, MemoryReadStore, MemoryFollowedLog]] = {}


class Shared(Settings):
    """Every bus that is made with it stands on the same ground."""

    _ground: Ground

    def backend(self, service: str, projected: Sequence[str]) -> Backend:
        fresh = MemoryEventLog(), MemoryReadStore(), MemoryFollowedLog()
        log, store, followed = self._ground.stores.setdefault(service, fresh)
        effects = MemoryEffects(log, store, projected=projected, handled_for=60)
        transport = MemoryTransport(self._ground.broker, service)
        return Backend(transport, log, store, effects, _nothing, followed=followed)


async def _nothing() -> None:
    """There is no connection to close."""


class TestFollowingInMemory(FollowingContract):
    @pytest.fixture
    def ground(self) -> Ground:
        return Ground()

    @pytest.fixture
    def make_bank(self, ground: Ground) -> Callable[..., Bus]:
        return lambda: bank(settings_on(ground), "bank")

    @pytest.fixture
    def make_shop(self, ground: Ground) -> Callable[..., Bus]:
        def make(version: int = 1, partitions: int = 1, **named: float) -> Bus:
            settings = settings_on(ground, **named)
            return shop(settings, "shop", "bank", version=version, partitions=partitions)

        return make


def settings_on(ground: Ground, **named: float) -> Settings:
    """Settings for a bus on that ground."""
    settings = Shared(amqp_url=MEMORY, mongo_url=MEMORY, **named)  # type: ignore[arg-type]
    settings._ground = ground
    return settings

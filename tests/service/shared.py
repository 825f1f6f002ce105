"""Settings in memory that several buses of one test share."""

from collections.abc import Sequence

from bus import Settings
from bus.assembly.backend import Backend
from bus.observe.loops import Loops
from bus.settings import MEMORY
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.stores.memory.effects import MemoryEffects
from bus.transports.memory.transport import MemoryBroker, MemoryTransport


class Shared(Settings):
    """Every bus that is made with it stands on the same broker and stores."""

    _ground: tuple[MemoryBroker, MemoryEventLog, MemoryReadStore]

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        broker, log, store = self._ground
        effects = MemoryEffects(log, store, projected=projected, handled_for=60)
        return Backend(
            transport=MemoryTransport(broker, service),
            event_log=log,
            read_store=store,
            effects=effects,
        )


def shared_settings() -> Settings:
    """A broker and stores that no other test has."""
    settings = Shared(amqp_url=MEMORY, mongo_url=MEMORY)
    settings._ground = MemoryBroker(), MemoryEventLog(), MemoryReadStore()
    return settings

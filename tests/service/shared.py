"""Settings in memory that several buses of one test share."""

from collections.abc import Sequence

from bus import Settings
from bus.assembly.backend import Backend
from bus.observe.loops import Loops
from bus.settings import MEMORY
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.stores.memory.effects import MemoryEffects
from bus.transports.memory.transport import MemoryBroker, MemoryTransport


class Shared(Settings):
    """Every bus that is made with it stands on the same broker and stores."""

    _ground: tuple[MemoryBroker, MemoryEventLog, MemoryCollections, MemoryControl]

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        broker, log, collections, control = self._ground
        effects = MemoryEffects(log, collections, projected=projected, handled_for=60)
        return Backend(
            transport=MemoryTransport(broker, service),
            event_log=log,
            collections=collections,
            control=control,
            effects=effects,
        )


def shared_settings() -> Settings:
    """A broker and stores that no other test has."""
    settings = Shared(amqp_url=MEMORY, mongo_url=MEMORY)
    stores = MemoryEventLog(), MemoryCollections(), MemoryControl()
    settings._ground = MemoryBroker(), *stores
    return settings

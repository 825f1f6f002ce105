"""A broker within one process, and its transport."""

from bus.transports.memory.broker import MemoryBroker
from bus.transports.memory.transport import MemoryTransport

__all__ = ["MemoryBroker", "MemoryTransport"]

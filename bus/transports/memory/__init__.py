"""The broker and its transport within one process."""

from bus.transports.memory.broker import MemoryBroker
from bus.transports.memory.transport import MemoryTransport

__all__ = ["MemoryBroker", "MemoryTransport"]

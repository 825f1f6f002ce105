"""The event log and the read store in memory: the same contracts, durable as long as the process.

For tests, demos, and services that may forget. Nothing here is shared between processes; the event
loops of one process may share it, also those of several threads.
"""

from bus.stores.memory.event_log import MemoryEventLog
from bus.stores.memory.read_store import MemoryReadStore

__all__ = ["MemoryEventLog", "MemoryReadStore"]

"""The event log and the read store in memory: the same contracts, durable as long as the process.

For tests, demos, and services that may forget. Nothing here is shared between processes; the event
loops of one process may share it, also those of several threads.

event_log, log   commits by stream and by category
read_store    read collections, checkpoints, small shared records
documents, engine, totals, mongomock   reads and writes of documents
changes, deadletters, effects   feeds of changes; dead letters; a handler's writes
"""

from bus.stores.memory.event_log import MemoryEventLog
from bus.stores.memory.read_store import MemoryReadStore

__all__ = ["MemoryEventLog", "MemoryReadStore"]

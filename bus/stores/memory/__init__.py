"""The event log, collections and control in memory: the same contracts, durable as long as the
process.

For tests, demos, and services that may forget. Nothing here is shared between processes; the event
loops of one process may share it, also those of several threads.

event_log, log   commits by stream and by category
collections, control   read collections with their versions; a service's own records
documents, engine, totals, mongomock   reads and writes of documents
changes, deadletters, effects   feeds of changes; dead letters; a handler's writes
"""

from bus.stores.memory.collections import MemoryCollections, Saved, SavedCollections
from bus.stores.memory.control import MemoryControl
from bus.stores.memory.event_log import MemoryEventLog

__all__ = [
    "MemoryCollections",
    "MemoryControl",
    "MemoryEventLog",
    "Saved",
    "SavedCollections",
]

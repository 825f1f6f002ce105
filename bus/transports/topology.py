"""Which queues there are and what they are bound to: pure data, derived from the bus.

The names are the wire: renaming a service or a subscription starts new queues.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

SLOTS = 64
DELAYS = (1, 5, 30, 120, 600, 3600)
DELIVERY_LIMIT = 20
COMMAND_TOPIC = "command"


class Queue(NamedTuple):
    """A durable queue. `topics` bind it to the service's "events" (`*` is one word, `#` any
    number of words), or, for `address` "commands", are exact. With `single_consumer`, one consumer
    receives at a time and the others stand by."""

    name: str
    address: str
    topics: tuple[str, ...]
    single_consumer: bool = False


class Topology(NamedTuple):
    """All that a service declares at the broker."""

    service: str
    queues: tuple[Queue, ...]


def slot_of(stream: str) -> int:
    """The slot of a stream: the same for all its events, for ever (CRC-32 modulo 64)."""
    return zlib.crc32(stream.encode()) % SLOTS


def rung(seconds: float) -> int:
    """The shortest delay of the ladder that is as long as asked for, or else the longest."""
    return next((delay for delay in DELAYS if delay >= seconds), DELAYS[-1])


def dead_queue(service: str) -> str:
    """Where the broker puts what it delivered too often in vain."""
    return f"{service}.dead"


def event_topic(category: str, name: str, stream: str) -> str:
    return f"{category}.{name}.{slot_of(stream)}"


def projection_queues(
    service: str, subscription: str, categories: Sequence[str], partitions: int
) -> list[Queue]:
    """One queue for each partition; a partition is bound to every `partitions`-th slot."""
    if partitions == 1:
        topics = tuple(f"{category}.#" for category in categories)
        return [Queue(f"{service}.{subscription}", "events", topics, single_consumer=True)]
    return [
        Queue(
            f"{service}.{subscription}.{partition}of{partitions}",
            "events",
            tuple(
                f"{category}.*.{slot}"
                for category in categories
                for slot in range(partition, SLOTS, partitions)
            ),
            single_consumer=True,
        )
        for partition in range(partitions)
    ]


def handler_queue(service: str, subscription: str, events: Sequence[str]) -> Queue:
    """Bound by event name: a handler of side effects has no use for a stream's other versions."""
    return Queue(f"{service}.{subscription}", "events", tuple(f"*.{name}.*" for name in events))


def command_queue(service: str) -> Queue:
    return Queue(f"{service}.commands", "commands", (COMMAND_TOPIC,))

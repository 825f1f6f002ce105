"""Which queues there are and what they are bound to: pure data, derived from the bus.

The names are the wire: renaming a service or a subscription starts new queues.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SLOTS = 64
DELAYS = (1, 5, 30, 120, 600, 3600)
DELIVERY_LIMIT = 20
COMMAND_TOPIC = "command"


class Binding(NamedTuple):
    """Topics of another service's "events" exchange."""

    service: str
    topics: tuple[str, ...]


class Queue(NamedTuple):
    """A durable queue.

    `topics` bind it to the service's "events" (`*` is one word, `#` any number of words), or, for
    `address` "commands", are exact; `foreign` also binds it to the events of other services. With
    `single_consumer`, one consumer receives at a time and the others stand by.
    """

    name: str
    address: str
    topics: tuple[str, ...]
    single_consumer: bool = False
    foreign: tuple[Binding, ...] = ()


class Topology(NamedTuple):
    """All that a service declares at the broker."""

    service: str
    queues: tuple[Queue, ...]


def slot_of(stream: str) -> int:
    """Returns the slot of a stream: the same for all its events, for ever (CRC-32 modulo 64)."""
    return zlib.crc32(stream.encode()) % SLOTS


def rung(seconds: float) -> int:
    """Returns the shortest delay of at least `seconds`, or the longest if there is none."""
    return next((delay for delay in DELAYS if delay >= seconds), DELAYS[-1])


def dead_queue(service: str) -> str:
    """Returns the queue for messages that exceeded their queue's delivery limit."""
    return f"{service}.dead"


def delay_queues(service: str) -> list[str]:
    """Returns the queues from which messages come back to theirs after a delay."""
    return [f"{service}.delay.{seconds}s" for seconds in DELAYS]


def event_topic(category: str, name: str, stream: str) -> str:
    return f"{category}.{name}.{slot_of(stream)}"


def projection_queues(
    service: str,
    subscription: str,
    categories: Sequence[str],
    partitions: int,
    owners: Mapping[str, str] | None = None,
) -> list[Queue]:
    """Returns one queue for each partition; a partition is bound to every `partitions`-th slot.

    `owners` names the service that a category comes from, if it is not this one.
    """
    return [
        _bound(
            f"{service}.{subscription}{'' if partitions == 1 else f'.{partition}of{partitions}'}",
            {category: _slots(category, partition, partitions) for category in categories},
            owners or {},
            single_consumer=True,
        )
        for partition in range(partitions)
    ]


def _slots(category: str, partition: int, partitions: int) -> list[str]:
    if partitions == 1:
        return [f"{category}.#"]
    return [f"{category}.*.{slot}" for slot in range(partition, SLOTS, partitions)]


def handler_queue(
    service: str,
    subscription: str,
    events: Sequence[str],
    owners: Mapping[str, str] | None = None,
) -> Queue:
    """Returns a queue bound by event name, because an event handler needs no other events.

    The service's own events are bound by name alone, another service's only within the categories
    followed.
    """
    topics = {category: [f"{category}.{name}.*" for name in events] for category in owners or {}}
    topics["*"] = [f"*.{name}.*" for name in events]
    return _bound(f"{service}.{subscription}", topics, owners or {})


def _bound(
    name: str,
    topics: Mapping[str, Sequence[str]],
    owners: Mapping[str, str],
    *,
    single_consumer: bool = False,
) -> Queue:
    """Returns a queue bound to the topics of each category, at the service that owns it."""

    def of(owner: str | None) -> tuple[str, ...]:
        return tuple(
            topic
            for category, bound in topics.items()
            if owners.get(category) == owner
            for topic in bound
        )

    own = of(None)
    foreign = tuple(
        Binding(owner, of(owner))
        for owner in sorted({owners[category] for category in topics if category in owners})
    )
    return Queue(
        name=name, address="events", topics=own, single_consumer=single_consumer, foreign=foreign
    )


def requests_queue(service: str) -> Queue:
    """Returns the queue by which others ask for a service's history.

    It is bound to nothing, because they address it by name.
    """
    return Queue(f"{service}.history.requests", "events", ())


def history_queue(service: str) -> Queue:
    """Returns the queue by which other services' history reaches this service, in order."""
    return Queue(f"{service}.history.events", "events", (), single_consumer=True)


def command_queue(service: str) -> Queue:
    return Queue(f"{service}.commands", "commands", (COMMAND_TOPIC,))

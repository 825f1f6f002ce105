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
    """Topics of another service's "events"."""

    service: str
    topics: tuple[str, ...]


class Queue(NamedTuple):
    """A durable queue. `topics` bind it to the service's "events" (`*` is one word, `#` any
    number of words), or, for `address` "commands", are exact; `foreign` binds it to those of other
    services too. With `single_consumer`, one consumer receives at a time and the others stand by.
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
    service: str,
    subscription: str,
    categories: Sequence[str],
    partitions: int,
    owners: Mapping[str, str] | None = None,
) -> list[Queue]:
    """One queue for each partition; a partition is bound to every `partitions`-th slot.

    `owners` names the services that categories come from, where it is not this one.
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
    """Bound by event name: a handler of side effects has no use for a stream's other versions.

    Of the service's own events by that alone; of another's, only within the categories followed.
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
    """A queue bound to the topics of each category, where these come from."""
    own = tuple(t for category, some in topics.items() if category not in owners for t in some)
    foreign = tuple(
        Binding(
            owner,
            tuple(
                t
                for category, some in topics.items()
                if owners.get(category) == owner
                for t in some
            ),
        )
        for owner in sorted({owners[category] for category in topics if category in owners})
    )
    return Queue(
        name=name, address="events", topics=own, single_consumer=single_consumer, foreign=foreign
    )


def requests_queue(service: str) -> Queue:
    """Where others ask a service for its history. Bound to nothing: they name it."""
    return Queue(f"{service}.history.requests", "events", ())


def history_queue(service: str) -> Queue:
    """Where the history of other services comes to this one, in order."""
    return Queue(f"{service}.history.events", "events", (), single_consumer=True)


def command_queue(service: str) -> Queue:
    return Queue(f"{service}.commands", "commands", (COMMAND_TOPIC,))

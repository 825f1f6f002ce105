"""A topology in AMQP's words: exchanges, quorum queues, the delay ladder, dead letters. No I/O.

Valid for RabbitMQ 3.10 and for 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bus.transports.topology import DELAYS, DELIVERY_LIMIT, Queue, Topology, dead_queue

# RabbitMQ 4 has a default limit (20), and earlier versions have no value for "no limit".
NO_LIMIT = 1_000_000_000

MOVING = ".moving"
"""Ends the name of a queue in which messages stand aside while their own is made anew."""

TOPIC, DIRECT, FANOUT = "topic", "direct", "fanout"


class WantedQueue(NamedTuple):
    """A durable queue with all its arguments, and its bindings: pairs of an exchange and a
    topic."""

    name: str
    arguments: Mapping[str, Any]
    bindings: Sequence[tuple[str, str]]

    @property
    def aside(self) -> "WantedQueue":
        """The queue that takes its messages while it is made anew."""
        return self._replace(name=f"{self.name}{MOVING}")

    @property
    def own_exchange(self) -> str:
        """The exchange that is for this queue alone, where messages come with keys that they must
        keep; empty if it has none."""
        return next((exchange for exchange, topic in self.bindings if not topic), "")


def wanted_queues(topology: Topology) -> list[WantedQueue]:
    """Returns the queues that a service declares: those of dead letters and delays first."""
    service, dead = topology.service, dead_queue(topology.service)
    delays = {f"{service}.delay.{seconds}s": _delay(seconds) for seconds in DELAYS}
    return [
        _quorum(dead, {"x-delivery-limit": NO_LIMIT}, [(dead, "")]),
        *(_quorum(name, arguments, [(name, "")]) for name, arguments in delays.items()),
        *(
            _quorum(queue.name, _arguments(queue, dead), bindings_of(service, queue))
            for queue in topology.queues
        ),
    ]


def wanted_exchanges(topology: Topology) -> dict[str, str]:
    """Returns the types of the service's own exchanges, and of the events of others, whose
    services may not have started yet; by name."""
    service = topology.service
    kinds = {"events": TOPIC, "commands": DIRECT}
    kinds |= dict.fromkeys(("dead", *(f"delay.{n}s" for n in DELAYS)), FANOUT)
    followed = {binding.service for queue in topology.queues for binding in queue.foreign}
    foreign = {f"{other}.events": TOPIC for other in sorted(followed)}
    return {f"{service}.{role}": kind for role, kind in kinds.items()} | foreign


def bindings_of(service: str, queue: Queue) -> list[tuple[str, str]]:
    own = [(f"{service}.{queue.address}", topic) for topic in queue.topics]
    return own + [(f"{owner}.events", topic) for owner, topics in queue.foreign for topic in topics]


def _quorum(
    name: str, arguments: Mapping[str, Any], bindings: Sequence[tuple[str, str]]
) -> WantedQueue:
    return WantedQueue(name, {"x-queue-type": "quorum", **arguments}, bindings)


def _arguments(queue: Queue, dead: str) -> dict[str, Any]:
    arguments = {"x-delivery-limit": DELIVERY_LIMIT, **_dead_letters_to(dead)}
    if queue.single_consumer:
        arguments["x-single-active-consumer"] = True
    return arguments


def _delay(seconds: int) -> dict[str, Any]:
    return {"x-message-ttl": seconds * 1000, **_dead_letters_to("")}


def _dead_letters_to(exchange: str) -> dict[str, Any]:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",  # the default loses what cannot be routed
        "x-overflow": "reject-publish",  # required by that strategy
    }

"""Which queues a topic reaches, by AMQP's rules for topic exchanges."""

from collections.abc import Sequence

from bus.transports.topology import Topology


class Exchange:
    """Bindings, and the queues that they gave for the topics seen so far."""

    def __init__(self) -> None:
        self._bindings: dict[tuple[str, ...], set[str]] = {}
        self._routes: dict[str, list[str]] = {}

    def bind(self, pattern: tuple[str, ...], queue: str) -> None:
        self._bindings.setdefault(pattern, set()).add(queue)
        self._routes.clear()

    def forget(self, queue: str) -> None:
        """Removes all bindings of a queue."""
        for queues in self._bindings.values():
            queues.discard(queue)
        self._routes.clear()

    def queues(self, topic: str) -> list[str]:
        routes = self._routes.get(topic)
        if routes is None:
            words = topic.split(".")
            found: set[str] = set()
            for pattern, queues in self._bindings.items():
                if pattern == (topic,) or _matches(pattern, words):
                    found |= queues
            routes = self._routes[topic] = sorted(found)
        return routes


def events_of(topology: Topology) -> Exchange:
    """Returns the bindings of a service's own queues to its own events."""
    exchange = Exchange()
    for queue in topology.queues:
        for topic in queue.topics if queue.address == "events" else ():
            exchange.bind(tuple(topic.split(".")), queue.name)
    return exchange


def _matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(_matches(rest, words[start:]) for start in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and _matches(rest, words[1:])

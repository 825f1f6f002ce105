"""The broker in memory: exchanges, queues and delays.

Event loops of several threads may share it: what is for another loop is handed over to that loop.
"""

import asyncio
import heapq
import time
from collections.abc import Iterable
from itertools import count
from threading import RLock
from typing import Protocol

from bus.common.tasks import Home
from bus.errors import TopologyMismatch
from bus.transports.base import DEATH_QUEUE, DEATH_REASON, REPLY, Frame
from bus.transports.bindings import Exchange
from bus.transports.topology import DELIVERY_LIMIT, Queue, Topology, dead_queue


class Consumer(Protocol):
    """What takes a queue's messages."""

    home: Home

    @property
    def has_room(self) -> bool: ...

    def deliver(self, message: "Message") -> None:
        """Takes a message."""

    def taken_back(self) -> "list[Message]":
        """Returns the messages that are delivered and not settled, and forgets them."""


class Requester(Protocol):
    """What has asked for an answer."""

    def replied(self, ticket: str, frame: Frame) -> None:
        """Takes the answer; may be called from any thread."""


class Message:
    """A frame in a queue."""

    __slots__ = ("exchange", "failures", "frame", "position", "redelivered")

    def __init__(self, frame: Frame, exchange: str, position: int) -> None:
        self.frame = frame
        self.exchange = exchange
        self.position = position
        self.failures = 0
        self.redelivered = False

    def __lt__(self, other: "Message") -> bool:
        return self.position < other.position


class MemoryQueue:
    """Messages by their position; a message that comes back takes its old place."""

    def __init__(self, name: str, lock: RLock) -> None:
        self.name = name
        self.lock = lock
        self.declared: Queue | None = None
        self.dead: MemoryQueue | None = None
        self.ready: list[Message] = []
        self.consumers: list[Consumer] = []
        self._positions = 0

    def put(self, frame: Frame, exchange: str = "") -> None:
        with self.lock:
            self._positions += 1
            heapq.heappush(self.ready, Message(frame, exchange, self._positions))
            self.hand_out()

    def put_back(self, messages: Iterable[Message], *, failed: bool) -> None:
        with self.lock:
            for message in messages:
                message.redelivered = True
                message.failures += failed
                if self.dead and message.failures > DELIVERY_LIMIT:
                    self.dead.put(_dead_letter(message.frame, self.name), self.dead.name)
                else:
                    heapq.heappush(self.ready, message)
            self.hand_out()

    def hand_out(self) -> None:
        with self.lock:
            while self.ready and (inbox := self._next_consumer()):
                inbox.deliver(heapq.heappop(self.ready))

    def join(self, inbox: "Consumer") -> None:
        """Adds a consumer, and takes back the messages of those whose event loop has ended."""
        with self.lock:
            for other in list(self.consumers):
                if other.home.is_gone:
                    self.consumers.remove(other)
                    self.put_back(other.taken_back(), failed=False)
            self.consumers.append(inbox)
            self.hand_out()

    def _next_consumer(self) -> "Consumer | None":
        alone = self.declared is not None and self.declared.single_consumer
        for inbox in self.consumers[:1] if alone else self.consumers:
            if inbox.has_room:
                if not alone:  # the others' turn comes first next time
                    self.consumers.remove(inbox)
                    self.consumers.append(inbox)
                return inbox
        return None


def _dead_letter(frame: Frame, queue: str) -> Frame:
    death = {DEATH_QUEUE: queue, DEATH_REASON: "delivery_limit"}
    return frame._replace(address="dead", headers={**frame.headers, **death})


class _Delays:
    """Frames to be put in a queue later, by timers of the running loop or of a later one."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, MemoryQueue, Frame]] = {}
        self._numbers = count()

    def add(self, seconds: float, queue: MemoryQueue, frame: Frame) -> None:
        number = next(self._numbers)
        self._waiting[number] = time.monotonic() + seconds, queue, frame
        asyncio.get_running_loop().call_later(seconds, self._put, number)

    def hold(self) -> None:
        """Sets timers for all frames in the running loop too, because other loops may end."""
        loop, now = asyncio.get_running_loop(), time.monotonic()
        for number, (due, _, _) in list(self._waiting.items()):
            loop.call_later(max(0.0, due - now), self._put, number)

    def _put(self, number: int) -> None:
        if waiting := self._waiting.pop(number, None):
            _, queue, frame = waiting
            queue.put(frame)


class MemoryBroker:
    """Exchanges and queues, shared by all transports that are given this object."""

    def __init__(self) -> None:
        self._exchanges: dict[str, Exchange] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._lock = RLock()
        self.delays = _Delays()
        self.requesters: dict[str, Requester] = {}

    def queue(self, name: str) -> MemoryQueue:
        return self._queues.setdefault(name, MemoryQueue(name, self._lock))

    def exchange(self, name: str) -> Exchange:
        return self._exchanges.setdefault(name, Exchange())

    def declare(self, topology: Topology) -> None:
        with self._lock:
            self._declare(topology)

    def _declare(self, topology: Topology) -> None:
        self._check(topology)
        dead = self.queue(dead_queue(topology.service))
        for declared in topology.queues:
            queue = self.queue(declared.name)
            queue.declared, queue.dead = declared, dead
            exchange = self.exchange(f"{topology.service}.{declared.address}")
            for topic in declared.topics:
                words = tuple(topic.split("."))
                exchange.bind((topic,) if declared.address == "commands" else words, queue.name)
            for service, topics in declared.foreign:
                for topic in topics:
                    self.exchange(f"{service}.events").bind(tuple(topic.split(".")), queue.name)

    def missing(self, topology: Topology) -> list[str]:
        """Returns the queues that do not exist, each as "queue NAME"."""
        return [f"queue {q.name}" for q in topology.queues if not self._declared(q.name)]

    def absent(self, topology: Topology) -> set[str]:
        """Returns the names of the queues of several consumers that do not exist."""
        several = (queue.name for queue in topology.queues if not queue.single_consumer)
        return {name for name in several if not self._declared(name)}

    def _declared(self, name: str) -> bool:
        queue = self._queues.get(name)
        return queue is not None and queue.declared is not None

    def delete(self, names: Iterable[str]) -> None:
        """Deletes queues with all their messages; consumers wait for a new queue of the name."""
        with self._lock:
            for name in names:
                if queue := self._queues.get(name):
                    queue.declared = None
                    queue.ready.clear()
                    for exchange in self._exchanges.values():
                        exchange.forget(name)

    def route(self, exchange: str, frame: Frame) -> bool:
        """Routes a frame; returns whether any queue took it."""
        if frame.address.startswith("delay."):
            return self._delay(frame)
        if frame.address == "queue":
            return self._direct(frame)
        if frame.address == REPLY:
            return self._reply(frame)
        with self._lock:
            queues = self.exchange(exchange).queues(frame.topic)
            for name in queues:
                self.queue(name).put(frame, exchange)
        return bool(queues)

    def _direct(self, frame: Frame) -> bool:
        queue = self._queues.get(frame.topic)
        if queue is None or queue.declared is None:
            return False
        queue.put(frame._replace(address=""))
        return True

    def _delay(self, frame: Frame) -> bool:
        # Dropped if there is no such queue.
        seconds = int(frame.address.removeprefix("delay.").removesuffix("s"))
        if queue := self._queues.get(frame.topic):
            self.delays.add(seconds, queue, frame._replace(address=""))
        return True

    def _reply(self, frame: Frame) -> bool:
        place, _, ticket = frame.topic.rpartition("#")
        if requester := self.requesters.get(place):
            requester.replied(ticket, frame)
        return True

    def _check(self, topology: Topology) -> None:
        for declared in topology.queues:
            there = self.queue(declared.name).declared
            if there and there.single_consumer != declared.single_consumer:
                raise TopologyMismatch(
                    f"The queue {declared.name} exists with single_consumer="
                    f"{there.single_consumer}. Rename the subscription, or use a new MemoryBroker."
                )

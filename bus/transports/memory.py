"""A broker within the process: real queues without a network, lost when the process ends.

What holds of the real broker holds here: bindings, prefetch, single consumers, redelivery in order,
the delivery limit and dead letters. Ask for it by name; nothing falls back to it.
"""

import asyncio
import heapq
from collections.abc import Iterable, Sequence

from bus.errors import TopologyMismatch, TransportUnavailable, Unroutable
from bus.transports.base import (
    DEATH_QUEUE,
    DEATH_REASON,
    MOST_WAITING,
    REPLY,
    Delivery,
    Frame,
    refusal,
)
from bus.transports.bindings import Exchange, events_of
from bus.transports.buffer import Buffer
from bus.transports.replies import Replies, answer
from bus.transports.topology import DELIVERY_LIMIT, Queue, Topology, dead_queue


class _Message:
    __slots__ = ("exchange", "failures", "frame", "position", "redelivered")

    def __init__(self, frame: Frame, exchange: str, position: int) -> None:
        self.frame = frame
        self.exchange = exchange
        self.position = position
        self.failures = 0
        self.redelivered = False

    def __lt__(self, other: "_Message") -> bool:
        return self.position < other.position


class _Queue:
    """Messages by their position; what comes back takes its old place again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.declared: Queue | None = None
        self.dead: _Queue | None = None
        self.ready: list[_Message] = []
        self.consumers: list[MemoryInbox] = []
        self._positions = 0

    def put(self, frame: Frame, exchange: str = "") -> None:
        self._positions += 1
        heapq.heappush(self.ready, _Message(frame, exchange, self._positions))
        self.hand_out()

    def put_back(self, messages: Iterable[_Message], *, failed: bool) -> None:
        for message in messages:
            message.redelivered = True
            message.failures += failed
            if self.dead and message.failures > DELIVERY_LIMIT:
                self.dead.put(_dead_letter(message.frame, self.name), self.dead.name)
            else:
                heapq.heappush(self.ready, message)
        self.hand_out()

    def hand_out(self) -> None:
        while self.ready and (inbox := self._next_consumer()):
            inbox.deliver(heapq.heappop(self.ready))

    def _next_consumer(self) -> "MemoryInbox | None":
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


class MemoryBroker:
    """Exchanges and queues, for all transports that are given this object."""

    def __init__(self) -> None:
        self._exchanges: dict[str, Exchange] = {}
        self._queues: dict[str, _Queue] = {}
        self.replies: dict[str, Replies] = {}

    def queue(self, name: str) -> _Queue:
        return self._queues.setdefault(name, _Queue(name))

    def exchange(self, name: str) -> Exchange:
        return self._exchanges.setdefault(name, Exchange())

    def declare(self, topology: Topology) -> None:
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
        """The queues that are not there."""
        return [f"queue {one.name}" for one in topology.queues if not self._declared(one.name)]

    def absent(self, topology: Topology) -> set[str]:
        """The queues of several consumers that are not there."""
        several = (one.name for one in topology.queues if not one.single_consumer)
        return {name for name in several if not self._declared(name)}

    def _declared(self, name: str) -> bool:
        queue = self._queues.get(name)
        return queue is not None and queue.declared is not None

    def delete(self, names: Iterable[str]) -> None:
        """Queues with all that is in them; consumers of one wait for a new one by that name."""
        for name in names:
            if queue := self._queues.get(name):
                queue.declared = None
                queue.ready.clear()
                for exchange in self._exchanges.values():
                    exchange.forget(name)

    def route(self, exchange: str, frame: Frame) -> bool:
        """Whether any queue took the frame."""
        if frame.address.startswith("delay."):
            return self._delay(frame)
        if frame.address == "queue":
            return self._direct(frame)
        if frame.address == REPLY:
            return self._reply(frame)
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
        # A timer of the loop holds it. Where no such queue is, it is dropped.
        seconds = int(frame.address.removeprefix("delay.").removesuffix("s"))
        if queue := self._queues.get(frame.topic):
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, queue.put, frame._replace(address=""))
        return True

    def _reply(self, frame: Frame) -> bool:
        place, _, ticket = frame.topic.rpartition("#")
        if replies := self.replies.get(place):
            replies.arrived(ticket, frame)
        return True

    def _check(self, topology: Topology) -> None:
        for declared in topology.queues:
            there = self.queue(declared.name).declared
            if there and there.single_consumer != declared.single_consumer:
                raise TopologyMismatch(
                    f"The queue {declared.name} exists with single_consumer="
                    f"{there.single_consumer}. Rename the subscription, or use a new MemoryBroker."
                )


class MemoryInbox:
    """One consumer of a queue; `deliver` and `has_room` are the broker's side of it."""

    def __init__(self, queue: _Queue, prefetch: int) -> None:
        self.queue = queue.name
        self._source = queue
        self._prefetch = prefetch
        self._buffer = Buffer()
        self._unsettled: dict[int, _Message] = {}
        self._waiting = 0
        self._tags = 0
        self._generation = 1
        self.consuming = True
        self.problem: str | None = None
        self._source.consumers.append(self)
        self._source.hand_out()

    @property
    def has_room(self) -> bool:
        return len(self._unsettled) < self._prefetch and self._waiting < MOST_WAITING

    @property
    def unsettled(self) -> int:
        """How many deliveries are neither settled nor given back."""
        return len(self._unsettled)

    @property
    def is_alone(self) -> bool:
        """Whether its queue has a single consumer at a time."""
        declared = self._source.declared
        return declared is not None and declared.single_consumer

    def deliver(self, message: _Message) -> None:
        self._tags += 1
        self._unsettled[self._tags] = message
        self._waiting += len(message.frame.body)
        place = self.queue, self._tags, self._generation
        self._buffer.add(Delivery(message.frame, *place, message.redelivered, message.exchange))

    @property
    def idle_since(self) -> tuple[int, int] | None:
        idle = self.consuming and not self._unsettled
        return (self._generation, self._tags) if idle else None

    @property
    def generation(self) -> int | None:
        return self._generation

    async def reopen(self, *, connection: bool = False) -> None:
        if self.consuming:
            self._forget()
            self._generation += 1
            self._give_back()
            self._source.consumers.append(self)
            self._source.hand_out()

    async def take(self, limit: int) -> list[Delivery]:
        return await self._buffer.take(limit)

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(deliveries)
        self._source.hand_out()

    async def reject(self, delivery: Delivery) -> None:
        self._source.put_back(self._settle([delivery]), failed=True)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._source.put_back(self._settle(deliveries), failed=False)

    async def stop(self) -> None:
        self._leave()
        self._source.hand_out()

    async def close(self) -> None:
        self._leave()
        self._give_back()

    def _leave(self) -> None:
        self.consuming = False
        self._forget()
        self._buffer.stop()

    def _forget(self) -> None:
        if self in self._source.consumers:
            self._source.consumers.remove(self)

    def _give_back(self) -> None:
        self._buffer.clear()
        messages = list(self._unsettled.values())
        self._unsettled.clear()
        self._waiting = 0
        self._source.put_back(messages, failed=False)

    def _settle(self, deliveries: Sequence[Delivery]) -> list[_Message]:
        taken = (self._unsettled.pop(delivery.tag, None) for delivery in deliveries)
        settled = [message for message in taken if message]
        self._waiting -= sum(len(message.frame.body) for message in settled)
        return settled


class MemoryTransport:
    """A transport for `service` over a broker in this process."""

    def __init__(self, broker: MemoryBroker, service: str) -> None:
        self._broker = broker
        self._service = service
        self.inboxes: list[MemoryInbox] = []
        self._replies = Replies()
        self._requests = 0
        self._topology: Topology | None = None
        self._anew: set[str] = set()
        self._events = Exchange()
        self._open = False

    async def open(self) -> None:
        self._open = True
        self._broker.replies[self._place] = self._replies

    async def close(self) -> None:
        self._open = False
        self._broker.replies.pop(self._place, None)
        self._replies.lost()
        for inbox in self.inboxes:
            await inbox.close()
        self.inboxes.clear()

    async def declare(self, topology: Topology) -> None:
        self._require_open()
        self._topology, self._events = topology, events_of(topology)
        self._declare(topology)

    def made_anew(self) -> list[str]:
        """As `Transport.made_anew`."""
        anew, self._anew = self._anew, set()
        return sorted(anew)

    def _declare(self, topology: Topology) -> None:
        self._anew |= self._broker.absent(topology)
        self._broker.declare(topology)

    async def restore(self, topology: Topology) -> list[str]:
        """As `Transport.restore`."""
        self._require_open()
        gone = self._broker.missing(topology)
        self._declare(topology)
        return gone

    async def publish(
        self,
        frames: Sequence[Frame],
        *,
        must_route: bool = False,
        checked: bool = False,
        timeout: float = 10.0,
    ) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for frame in frames:
            if problem := self._publish(frame, must_route, checked):
                failures[frame.id] = problem
        await asyncio.sleep(0)  # nobody may count on publishing without a pause
        return failures

    async def request(self, frame: Frame, timeout: float) -> Frame:
        deadline = asyncio.get_running_loop().time() + timeout
        self._requests += 1
        ticket = str(self._requests)
        reply = self._replies.expect(ticket)
        try:
            asking = frame._replace(reply_to=f"{self._place}#{ticket}")
            for problem in (await self.publish([asking], must_route=True)).values():
                raise problem
            return await answer(frame, reply, deadline, timeout)
        finally:
            reply.cancel()

    @property
    def _place(self) -> str:
        return f"memory.{id(self)}"

    def _publish(self, frame: Frame, must_route: bool, checked: bool) -> Exception | None:
        if not self._open:
            return TransportUnavailable("the transport is closed")
        if not checked and (problem := refusal(frame)):
            return problem
        copy = frame._replace(headers=dict(frame.headers))
        if self._broker.route(f"{self._service}.{frame.address}", copy):
            return None
        if not must_route:
            return self._unbound(frame)
        return Unroutable(f"no queue of {self._service}.{frame.address} takes {frame.topic}")

    def _unbound(self, frame: Frame) -> TransportUnavailable | None:
        """Declares anew, where a queue of ours should have taken it."""
        if frame.address != "events" or not self._events.queues(frame.topic):
            return None
        assert self._topology is not None
        self._declare(self._topology)
        return TransportUnavailable("the queue that this event is for was gone")

    async def inbox(self, queue: str, *, prefetch: int) -> MemoryInbox:
        self._require_open()
        inbox = MemoryInbox(self._broker.queue(queue), prefetch)
        self.inboxes.append(inbox)
        return inbox

    async def consumers(self, queue: str) -> int:
        self._require_open()
        return len(self._broker.queue(queue).consumers)

    async def delete(self, queues: Sequence[str]) -> None:
        """As `Transport.delete`."""
        self._require_open()
        self._broker.delete(queues)

    async def depth(self, queue: str) -> int:
        self._require_open()
        return len(self._broker.queue(queue).ready)

    @property
    def healthy(self) -> bool:
        return self._open

    @property
    def description(self) -> str:
        return "memory"

    def _require_open(self) -> None:
        if not self._open:
            raise TransportUnavailable("the transport is not open: await transport.open() first")

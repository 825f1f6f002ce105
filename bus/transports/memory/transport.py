"""A broker within the process: real queues without a network, lost when the process ends.

It behaves like the real broker: bindings, prefetch, single consumers, redelivery in order, the
delivery limit and dead letters. Ask for it by name; nothing falls back to it.
"""

import asyncio
from collections.abc import Sequence

from bus.common.tasks import Home
from bus.errors import TransportUnavailable, Unroutable
from bus.transports.base import MOST_WAITING, Delivery, Frame, Inbox, Transport, refusal
from bus.transports.bindings import Exchange, events_of
from bus.transports.buffer import Buffer
from bus.transports.memory.broker import Consumer, MemoryBroker, MemoryQueue, Message, Requester
from bus.transports.replies import PendingReplies, answer
from bus.transports.topology import Topology

__all__ = ["MemoryBroker", "MemoryInbox", "MemoryTransport"]


class MemoryInbox(Inbox, Consumer):
    """One consumer of a queue; `deliver` and `has_room` are the broker's side of it."""

    consuming = True
    problem: str | None = None

    def __init__(self, queue: MemoryQueue, prefetch: int) -> None:
        self.queue = queue.name
        self._source = queue
        self._prefetch = prefetch
        self._buffer = Buffer()
        self._unsettled: dict[int, Message] = {}
        self._waiting = 0
        self._tags = 0
        self._generation = 1
        self.home = Home()
        self._source.join(self)

    @property
    def has_room(self) -> bool:
        return len(self._unsettled) < self._prefetch and self._waiting < MOST_WAITING

    @property
    def unsettled(self) -> int:
        """The number of deliveries that are neither settled nor given back."""
        return len(self._unsettled)

    def taken_back(self) -> list[Message]:
        """Returns the unsettled messages, and forgets them."""
        messages = list(self._unsettled.values())
        self._unsettled.clear()
        self._waiting = 0
        return messages

    @property
    def is_alone(self) -> bool:
        """Whether its queue has a single consumer at a time."""
        declared = self._source.declared
        return declared is not None and declared.single_consumer

    def deliver(self, message: Message) -> None:
        self._tags += 1
        self._unsettled[self._tags] = message
        self._waiting += len(message.frame.body)
        place = self.queue, self._tags, self._generation
        delivery = Delivery(message.frame, *place, message.redelivered, message.exchange)
        self.home.call(self._buffer.add, delivery)

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
            self._source.join(self)

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
        with self._source.lock:
            if self in self._source.consumers:
                self._source.consumers.remove(self)

    def _give_back(self) -> None:
        with self._source.lock:
            self._buffer.clear()
            self._source.put_back(self.taken_back(), failed=False)

    def _settle(self, deliveries: Sequence[Delivery]) -> list[Message]:
        with self._source.lock:
            taken = (self._unsettled.pop(delivery.tag, None) for delivery in deliveries)
            settled = [message for message in taken if message]
            self._waiting -= sum(len(message.frame.body) for message in settled)
        return settled


class MemoryTransport(Transport, Requester):
    """A transport for `service` over a broker in this process."""

    def __init__(self, broker: MemoryBroker, service: str) -> None:
        self._broker = broker
        self._service = service
        self.inboxes: list[MemoryInbox] = []
        self._replies = PendingReplies()
        self._requests = 0
        self._topology: Topology | None = None
        self._anew: set[str] = set()
        self._events = Exchange()
        self._open = False

    async def open(self) -> None:
        self._open = True
        self._home = Home()
        self._broker.requesters[self._place] = self
        self._broker.delays.hold()

    async def close(self) -> None:
        self._open = False
        self._broker.requesters.pop(self._place, None)
        self._replies.lost()
        for inbox in self.inboxes:
            await inbox.close()
        self.inboxes.clear()

    async def declare(self, topology: Topology) -> None:
        self._require_open()
        self._topology, self._events = topology, events_of(topology)
        self._declare(topology)

    def made_anew(self) -> list[str]:
        anew, self._anew = self._anew, set()
        return sorted(anew)

    def _declare(self, topology: Topology) -> None:
        self._anew |= self._broker.absent(topology)
        self._broker.declare(topology)

    async def restore(self, topology: Topology) -> list[str]:
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
        await asyncio.sleep(0)  # else callers could come to rely on publishing without a pause
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

    def replied(self, ticket: str, frame: Frame) -> None:
        """Takes an answer to a request; may be called from any thread."""
        self._home.call(self._replies.arrived, ticket, frame)

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
        """Declares again, if a queue of this service should have taken the frame."""
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

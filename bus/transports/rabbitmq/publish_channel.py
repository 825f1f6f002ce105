"""One publishing channel: what it sent, what is unconfirmed, which requests await a reply."""

import asyncio

from bus.errors import TransportUnavailable, Unroutable
from bus.transports.base import REPLY, Frame
from bus.transports.rabbitmq import frames
from bus.transports.rabbitmq.connection import RabbitSession
from bus.transports.rabbitmq.frame_reader import DeliveryReader, FrameHandler
from bus.transports.replies import PendingReplies

FRAMES_AT_ONCE = 64
"""How many frames leave in one write: a loop tick may have hundreds, and the broker can begin with
the first while others are made."""

MAYBE = ": it may have arrived"


class Unconfirmed(TransportUnavailable):
    """A frame left, and nothing more is known of it."""


class Call:
    """One call of `publish`; counts down to its last confirm."""

    __slots__ = ("done", "failures", "left", "must_route", "tags")

    def __init__(self, done: "asyncio.Future[None]", *, must_route: bool) -> None:
        self.done = done
        self.must_route = must_route
        self.left = 0
        self.tags: list[int] = []
        self.failures: dict[str, Exception] = {}

    def settle(self) -> None:
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, frame_id: str, problem: Exception) -> None:
        self.failures.setdefault(frame_id, problem)
        self.settle()


def _unrouted(call: Call) -> Exception:
    if call.must_route:
        return Unroutable("no queue is bound for this message")
    return TransportUnavailable(
        "RabbitMQ has lost the queue that this event is for, or its binding; it is declared again"
    )


class PublishChannel(FrameHandler):
    """A channel in confirm mode: numbers what it sends, and knows what is still unconfirmed.

    `attempts` is how many messages earlier channels sent; together with the tag it makes each
    message id unique, so that a returned message can be matched.
    """

    def __init__(self, session: RabbitSession, number: int, service: str, attempts: int) -> None:
        self.pending: dict[int, tuple[Call, str]] = {}
        self.replies = PendingReplies()
        self.sent = 0
        self.refused = False
        self.unrouted = False
        self.missed: set[str] = set()
        """Topics of events that came back although a queue of the service should take them."""
        self.woken = asyncio.Event()
        """Set when a message came back or the channel is lost."""
        self._attempts = attempts
        self._session = session
        self._number = number
        self._app_id = frames.short(service)
        self._exchanges = {"queue": frames.short(""), REPLY: frames.short("")}
        self._service = service
        self._limit = (session.amqp.connection_tune.frame_max or 131072) - 8
        self._buffer: list[bytes] = []
        self._confirmed = 0
        self._delivery_reader: DeliveryReader | None = None
        self._returned = ""
        self._closed = False
        self.loop = asyncio.get_running_loop()

    @property
    def attempts(self) -> int:
        return self._attempts + self.sent

    @property
    def usable(self) -> bool:
        return not self._closed and not self._session.writer.is_closing()

    @property
    def blocked(self) -> bool:
        return self._session.reader.blocked

    def send(self, call: Call, frame: Frame, mandatory: bool) -> None:
        if frame.address == REPLY:
            frame = frames.answering(frame)
        tag = self.sent + 1
        data = frames.publish(
            frame,
            f"{frame.id}#{self._attempts + tag}",
            channel=self._number,
            exchange=self._exchange(frame.address),
            app_id=self._app_id,
            mandatory=mandatory,
            limit=self._limit,
        )
        if not self._buffer:
            self.loop.call_soon(self._flush)
        self._buffer.append(data)
        if len(self._buffer) == FRAMES_AT_ONCE:
            self._flush()
        self.sent = tag
        self.pending[tag] = call, frame.id
        call.tags.append(tag)
        call.left += 1

    def _exchange(self, address: str) -> bytes:
        """Returns the exchange of an address.

        "queue" and replies use the nameless exchange, where the topic is a queue's name.
        """
        if address not in self._exchanges:
            self._exchanges[address] = frames.short(f"{self._service}.{address}")
        return self._exchanges[address]

    def _flush(self) -> None:
        data, self._buffer = b"".join(self._buffer), []
        if data and self.usable:
            self._session.writer.write(data)

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind != frames.METHOD:
            return self._receive_content(kind, data, start, end)
        match frames.method(data, start):
            case frames.ACK:
                self._settle(data, start, None)
            case frames.NACK:
                self.refused = True
                self._settle(data, start, TransportUnavailable("RabbitMQ refused the message"))
            case frames.RETURN:
                self._delivery_reader = None
                self._returned = frames.returned_topic(data, start)
            case frames.DELIVER:
                self._delivery_reader = DeliveryReader()
                self._delivery_reader.begin(data, start)
            case other:
                self._closed |= other == frames.CHANNEL_CLOSE
                return False
        return True

    def _receive_content(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if self._delivery_reader is None:
            self._receive_returned(kind, data, start)
        elif reply := self._delivery_reader.receive(kind, data, start, end):
            self.replies.arrived(reply.correlation_id, reply)
        return True

    def _receive_returned(self, kind: int, data: bytes, start: int) -> None:
        # Only notes the failure: the confirm follows and counts the message down. Settling it here
        # as well would end the call one message early.
        if kind == frames.HEADER:
            attempt = frames.message_id(data, start).rpartition("#")[2]
            if attempt.isdecimal() and (entry := self.pending.get(int(attempt) - self._attempts)):
                call, frame_id = entry
                call.failures[frame_id] = _unrouted(call)
                self.unrouted = True
                if not call.must_route:
                    self.missed.add(self._returned)
                self.woken.set()

    def _settle(self, data: bytes, start: int, problem: Exception | None) -> None:
        tag, multiple = frames.confirmation(data, start)
        # "Multiple" covers all tags since the last such confirm; those confirmed singly in between
        # are no longer pending. Counting from 1 each time would be quadratic.
        for confirmed in range(self._confirmed + 1, tag + 1) if multiple else (tag,):
            if entry := self.pending.pop(confirmed, None):
                self._resolve(*entry, problem)
        if multiple:
            self._confirmed = max(self._confirmed, tag)

    def _resolve(self, call: Call, frame_id: str, problem: Exception | None) -> None:
        if problem:
            call.fail(frame_id, problem)
        else:
            call.settle()

    def give_up(self, call: Call, problem: Exception) -> None:
        """Fails what is still unconfirmed of a call, although its frames are on their way."""
        for tag in call.tags:
            if entry := self.pending.pop(tag, None):
                call.fail(entry[1], problem)

    def lost(self, why: str) -> None:
        pending, self.pending = self.pending, {}
        problem = Unconfirmed(f"{why}{MAYBE}")
        for call, frame_id in pending.values():
            call.fail(frame_id, problem)
        self.replies.lost()

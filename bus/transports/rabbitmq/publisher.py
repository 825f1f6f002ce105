"""Publishing: the frames of one loop tick leave in one write, confirms resolve them in bulk."""

import asyncio
from collections.abc import Sequence

from bus.errors import TransportUnavailable, Unroutable
from bus.transports.base import Frame, refusal
from bus.transports.rabbitmq import wire
from bus.transports.rabbitmq.connection import Backoff, Link, Session, attend, stop
from bus.transports.rabbitmq.declare import declare_exchanges

_SETUP_TIMEOUT = 5.0
_DRAIN_TIMEOUT = 5.0


class _Call:
    """One call of `publish`: counts down to its last confirm."""

    __slots__ = ("done", "failures", "left", "tags")

    def __init__(self, done: "asyncio.Future[None]") -> None:
        self.done = done
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


class _Confirming:
    """A channel in confirm mode: numbers what it sends, and knows what is still unconfirmed.

    `attempts` is how many messages earlier channels sent: with the tag it makes each message id
    unique, by which a returned message is matched.
    """

    def __init__(self, session: Session, number: int, service: str, attempts: int) -> None:
        self.pending: dict[int, tuple[_Call, str]] = {}
        self.sent = 0
        self._attempts = attempts
        self._session = session
        self._number = number
        self._app_id = wire.short(service)
        self._exchanges: dict[str, bytes] = {"queue": wire.short("")}
        self._service = service
        self._limit = (session.amqp.connection_tune.frame_max or 131072) - 8
        self._buffer: list[bytes] = []
        self._confirmed = 0
        self._returning = False
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def attempts(self) -> int:
        return self._attempts + self.sent

    @property
    def usable(self) -> bool:
        return not self._closed and not self._session.writer.is_closing()

    @property
    def blocked(self) -> bool:
        return self._session.tap.blocked

    def send(self, call: _Call, frame: Frame, mandatory: bool) -> None:
        tag = self.sent + 1
        data = wire.publish(
            frame,
            f"{frame.id}#{self._attempts + tag}",
            channel=self._number,
            exchange=self._exchange(frame.address),
            app_id=self._app_id,
            mandatory=mandatory,
            limit=self._limit,
        )
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(data)
        self.sent = tag
        self.pending[tag] = call, frame.id
        call.tags.append(tag)
        call.left += 1

    def _exchange(self, address: str) -> bytes:
        """The exchange of an address; the nameless one takes every queue's name as its topic."""
        if address not in self._exchanges:
            self._exchanges[address] = wire.short(f"{self._service}.{address}")
        return self._exchanges[address]

    def _flush(self) -> None:
        data, self._buffer = b"".join(self._buffer), []
        if self.usable:
            self._session.writer.write(data)

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind != wire.METHOD:
            return self._receive_returned(kind, data, start)
        match wire.method(data, start):
            case wire.ACK:
                self._settle(data, start, None)
            case wire.NACK:
                self._settle(data, start, TransportUnavailable("RabbitMQ refused the message"))
            case wire.RETURN:
                self._returning = True
            case other:
                self._closed |= other == wire.CHANNEL_CLOSE
                return False
        return True

    def _receive_returned(self, kind: int, data: bytes, start: int) -> bool:
        # The confirm follows: it counts the message down, the failure stays.
        if kind == wire.HEADER and self._returning:
            attempt = wire.message_id(data, start).rpartition("#")[2]
            if attempt.isdecimal() and (entry := self.pending.get(int(attempt) - self._attempts)):
                call, frame_id = entry
                call.failures[frame_id] = Unroutable("no queue is bound for this message")
        return self._returning

    def _settle(self, data: bytes, start: int, problem: Exception | None) -> None:
        tag, multiple = wire.confirmation(data, start)
        for each in range(self._confirmed + 1, tag + 1) if multiple else (tag,):
            if entry := self.pending.pop(each, None):
                self._resolve(*entry, problem)
        if multiple:
            self._confirmed = max(self._confirmed, tag)

    def _resolve(self, call: _Call, frame_id: str, problem: Exception | None) -> None:
        if problem:
            call.fail(frame_id, problem)
        else:
            call.settle()

    def give_up(self, call: _Call, problem: Exception) -> None:
        """What of this call is still unconfirmed has failed; its frames are on their way."""
        for tag in call.tags:
            if entry := self.pending.pop(tag, None):
                call.fail(entry[1], problem)

    def lost(self) -> None:
        pending, self.pending = self.pending, {}
        problem = TransportUnavailable("the connection was lost: it may have arrived")
        for call, frame_id in pending.values():
            call.fail(frame_id, problem)


class Publisher:
    """Publishes on a connection of its own, since an alarm blocks whoever publishes."""

    def __init__(self, link: Link, service: str) -> None:
        self._link = link
        self._service = service
        self._channel: _Confirming | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._calls = 0
        self._attempts = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        channel = self._channel
        return channel is not None and channel.usable and not channel.blocked

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(attend(self._link, "publishing", self._use))

    async def ready(self) -> None:
        await self._ready.wait()

    async def close(self) -> None:
        """Waits for the confirms that are due, at most five seconds."""
        if self._task is None:
            return
        task, self._task = self._task, None
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                while self._calls:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            pass  # what is left is reported to its callers as unconfirmed
        finally:
            await stop(task)

    async def publish(
        self, frames: Sequence[Frame], must_route: bool, timeout: float
    ) -> dict[str, Exception]:
        channel = self._channel
        if problem := self._obstacle(channel):
            return {frame.id: problem for frame in frames}
        assert channel is not None
        call = _Call(asyncio.get_running_loop().create_future())
        for frame in frames:
            if refused := refusal(frame):
                call.failures[frame.id] = refused
            else:
                channel.send(call, frame, must_route)
        if call.left:
            await self._confirmed(channel, call, timeout)
        return call.failures

    def _obstacle(self, channel: _Confirming | None) -> TransportUnavailable | None:
        if self._task is None:
            return TransportUnavailable("RabbitMQ: the transport is closed")
        if channel is None or not channel.usable:
            return self._link.problem
        if channel.blocked:
            return TransportUnavailable("RabbitMQ accepts no messages: a memory or disk alarm")
        return None

    async def _confirmed(self, channel: _Confirming, call: _Call, timeout: float) -> None:
        self._calls += 1
        try:
            async with asyncio.timeout(timeout):
                await call.done
        except TimeoutError:
            problem = TransportUnavailable(f"no answer within {timeout} s: it may have arrived")
            channel.give_up(call, problem)
        finally:
            if call.left:  # cancelled
                channel.give_up(call, TransportUnavailable("given up by its caller"))
            self._calls -= 1
            self._idle.set()

    async def _use(self, session: Session, backoff: Backoff) -> None:
        async with asyncio.timeout(_SETUP_TIMEOUT):
            await declare_exchanges(session, self._service)
            amqp = await session.channel(confirms=True)
        channel = _Confirming(session, amqp.number, self._service, self._attempts)
        session.tap.sinks[amqp.number] = channel
        self._channel = channel
        self._ready.set()
        backoff.reset()
        try:
            await asyncio.wait([amqp.closing])
        finally:
            session.tap.sinks.pop(amqp.number, None)
            self._channel = None
            self._ready.clear()
            self._attempts = channel.attempts
            channel.lost()

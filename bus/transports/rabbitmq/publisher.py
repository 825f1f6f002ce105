"""Publishing: the frames of one loop tick leave in one write, confirms resolve them in bulk."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiormq.abc import AbstractChannel

from bus.errors import TransportUnavailable
from bus.transports.base import Frame, refusal, unanswered
from bus.transports.rabbitmq import wire
from bus.transports.rabbitmq.confirming import Call, Confirming, Unconfirmed
from bus.transports.rabbitmq.connection import (
    Backoff,
    Link,
    Session,
    attend,
    finish,
    genuine,
    stop,
)
from bus.transports.rabbitmq.declare import declare_exchanges
from bus.transports.replies import answer

_SETUP_TIMEOUT = 5.0
_DRAIN_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 2.0
_LOOK_EVERY = 10.0


class Publisher:
    """Publishes on a connection of its own, since an alarm blocks whoever publishes."""

    def __init__(self, link: Link, service: str) -> None:
        self._link = link
        self._service = service
        self._channel: Confirming | None = None
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
        call = Call(channel.loop.create_future())
        for frame in frames:
            if refused := refusal(frame):
                call.failures[frame.id] = refused
            else:
                channel.send(call, frame, must_route)
        if call.left:
            await self._confirmed(channel, call, timeout)
        return call.failures

    async def request(self, frame: Frame, timeout: float) -> Frame:
        channel = self._channel
        if problem := self._obstacle(channel) or refusal(frame):
            raise problem
        assert channel is not None
        deadline = channel.loop.time() + timeout
        call = Call(channel.loop.create_future())
        channel.send(call, frame._replace(reply_to=wire.REPLIES), mandatory=True)
        reply = channel.replies.expect(str(channel.attempts))
        try:
            await self._confirmed(channel, call, timeout)
            if not reply.done():
                _raise_failure(frame, call)
            return await answer(frame, reply, deadline, timeout)
        finally:
            reply.cancel()

    def _obstacle(self, channel: Confirming | None) -> TransportUnavailable | None:
        if self._task is None:
            return TransportUnavailable("RabbitMQ: the transport is closed")
        if channel is None or not channel.usable:
            return self._link.problem
        if channel.blocked:
            return TransportUnavailable("RabbitMQ accepts no messages: a memory or disk alarm")
        return None

    async def _confirmed(self, channel: Confirming, call: Call, timeout: float) -> None:
        self._calls += 1
        expiry = channel.loop.call_later(timeout, _expire, channel, call, timeout)
        try:
            await call.done
        finally:
            expiry.cancel()
            if call.left:  # cancelled
                channel.give_up(call, TransportUnavailable("given up by its caller"))
            self._calls -= 1
            self._idle.set()

    async def _use(self, session: Session, backoff: Backoff) -> None:
        async with asyncio.timeout(_SETUP_TIMEOUT):
            await declare_exchanges(session, self._service)
            amqp = await session.channel(confirms=True)
        channel = Confirming(session, amqp.number, self._service, self._attempts)
        session.tap.sinks[amqp.number] = channel
        try:
            async with asyncio.timeout(_SETUP_TIMEOUT):
                await genuine(amqp.basic_consume(wire.REPLIES, _untapped, no_ack=True))
            self._channel = channel
            self._ready.set()
            backoff.reset()
            await _until_lost_or_refused(amqp, channel)
        finally:
            session.tap.sinks.pop(amqp.number, None)
            self._channel = None
            self._ready.clear()
            self._attempts = channel.attempts
            channel.lost()
            await finish(amqp.close(), _CLOSE_TIMEOUT)


async def _until_lost_or_refused(amqp: AbstractChannel, channel: Confirming) -> None:
    """Returns when another channel is needed.

    RabbitMQ lets a channel that met a full queue refuse for that queue for ever, once the limit is
    taken away rather than the queue emptied.
    """
    closing: asyncio.Future[Any] = amqp.closing  # read once: each access makes another
    while not closing.done() and not channel.refused:
        await asyncio.wait([closing], timeout=_LOOK_EVERY)


def _expire(channel: Confirming, call: Call, timeout: float) -> None:
    # A timer of the loop's: `asyncio.timeout` costs three times as much, for each message.
    channel.give_up(call, Unconfirmed(f"no answer within {timeout} s: it may have arrived"))


def _raise_failure(frame: Frame, call: Call) -> None:
    problem = call.failures.get(frame.id)
    if isinstance(problem, Unconfirmed):
        raise unanswered(frame, str(problem).partition(":")[0]) from None
    if problem is not None:
        raise problem


async def _untapped(message: Any) -> None:
    """The library's own way of delivering, which the tap leaves without work."""
    raise AssertionError(f"a reply passed by the tap: {message.delivery_tag}")

"""Publishes: the frames of one loop tick leave in one write, and confirms resolve them in bulk."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiormq.exceptions import ChannelAccessRefused, ChannelClosed

from bus.common.backoff import Backoff
from bus.errors import BusError, TransportUnavailable
from bus.observe.log import Logger
from bus.transports.base import Frame, refusal, unanswered
from bus.transports.rabbitmq import frames
from bus.transports.rabbitmq.connection import (
    Link,
    RabbitSession,
    attend,
    finish,
    genuine,
    stop,
)
from bus.transports.rabbitmq.declaring import Declaring
from bus.transports.rabbitmq.publish_channel import MAYBE, Call, PublishChannel, Unconfirmed
from bus.transports.rabbitmq.refusals import right_remedy
from bus.transports.replies import answer

log = Logger("bus.rabbitmq")

EVENTS = "events"
_SETUP_TIMEOUT = 5.0
_DRAIN_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 2.0
_LOOK_EVERY = 10.0


class RabbitPublisher:
    """Publishes on its own connection, because an alarm blocks every connection that publishes."""

    def __init__(self, link: Link, service: str, declaring: Declaring) -> None:
        self._link = link
        self._service = service
        self._declaring = declaring
        self._lost_at = 0.0
        self._problem: TransportUnavailable | None = None
        self._channel: PublishChannel | None = None
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
        """Waits for outstanding confirms, at most five seconds, then closes."""
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
        self, frames: Sequence[Frame], must_route: bool, checked: bool, timeout: float
    ) -> dict[str, Exception]:
        channel = self._channel
        if problem := self._obstacle(channel):
            return {frame.id: problem for frame in frames}
        assert channel is not None
        call = Call(channel.loop.create_future(), must_route=must_route)
        queues_of = self._declaring.queues_of
        for frame in frames:
            if not checked and (refused := refusal(frame)):
                call.failures[frame.id] = refused
            else:
                expected = must_route or (frame.address == EVENTS and queues_of(frame.topic))
                channel.send(call, frame, bool(expected))
        if call.left:
            await self._confirmed(channel, call, timeout)
        return call.failures

    async def request(self, frame: Frame, timeout: float) -> Frame:
        channel = self._channel
        if problem := self._obstacle(channel) or refusal(frame):
            raise problem
        assert channel is not None
        deadline = channel.loop.time() + timeout
        call = Call(channel.loop.create_future(), must_route=True)
        channel.send(call, frame._replace(reply_to=frames.REPLIES), mandatory=True)
        reply = channel.replies.expect(str(channel.attempts))
        try:
            await self._confirmed(channel, call, timeout)
            if not reply.done():
                _raise_failure(frame, call)
            return await answer(frame, reply, deadline, timeout)
        finally:
            reply.cancel()

    def _obstacle(self, channel: PublishChannel | None) -> TransportUnavailable | None:
        if self._task is None:
            return TransportUnavailable("RabbitMQ: the transport is closed")
        if channel is None or not channel.usable:
            return TransportUnavailable(str(self._problem or self._link.problem))
        if channel.blocked:
            return TransportUnavailable("RabbitMQ accepts no messages: a memory or disk alarm")
        return None

    async def _confirmed(self, channel: PublishChannel, call: Call, timeout: float) -> None:
        self._calls += 1
        expiry = channel.loop.call_later(timeout, _expire, channel, call, timeout)
        try:
            await call.done
        finally:
            expiry.cancel()
            if call.left:  # cancelled
                channel.give_up(
                    call,
                    TransportUnavailable("its caller was cancelled before RabbitMQ confirmed it"),
                )
            self._calls -= 1
            self._idle.set()

    async def _use(self, session: RabbitSession, backoff: Backoff) -> None:
        await self._declare(max(session.since, self._lost_at))
        async with asyncio.timeout(_SETUP_TIMEOUT):
            amqp = await session.channel(confirms=True)
        channel = PublishChannel(session, amqp.number, self._service, self._attempts)
        closing: asyncio.Future[Any] = amqp.closing  # read once: each access makes another
        closing.add_done_callback(lambda _: channel.woken.set())
        session.reader.handlers[amqp.number] = channel
        try:
            async with asyncio.timeout(_SETUP_TIMEOUT):
                await genuine(amqp.basic_consume(frames.REPLIES, _untapped, no_ack=True))
            self._channel = channel
            self._problem = None
            self._ready.set()
            backoff.reset()
            await self._until_lost_or_refused(closing, channel, backoff)
        finally:
            session.reader.handlers.pop(amqp.number, None)
            self._channel = None
            self._ready.clear()
            self._attempts = channel.attempts
            self._lost_at = time.monotonic()
            self._note_missed(channel)
            channel.lost(_why(closing, self._service))
            await finish(amqp.close(), _CLOSE_TIMEOUT)

    async def _declare(self, moment: float) -> None:
        """Declares the topology first, because an exchange that lacks its queues drops events."""
        try:
            await self._declaring.since(moment)
        except BusError as error:
            self._problem = TransportUnavailable(
                f"nothing is published until what is needed is declared: {error}"
            )
            raise

    async def _until_lost_or_refused(
        self, closing: "asyncio.Future[Any]", channel: PublishChannel, backoff: Backoff
    ) -> None:
        """Returns when another channel is needed.

        After a refusal too: a channel that met a full queue goes on refusing for that queue for
        ever if the queue's limit is removed rather than the queue emptied.
        """
        while not closing.done() and not channel.refused:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await channel.woken.wait()
            channel.woken.clear()
            if channel.unrouted:
                channel.unrouted = False
                self._note_missed(channel)
                await self._declare_again(backoff)

    def _note_missed(self, channel: PublishChannel) -> None:
        """Notes the queues that missed events; while bindings come back, some may be bound before
        others."""
        missed, channel.missed = channel.missed, set()
        self._declaring.note_missed(missed)

    async def _declare_again(self, backoff: Backoff) -> None:
        """Declares again, because a queue or binding is gone; callers publish again what came
        back."""
        try:
            await self._declaring.since(time.monotonic())
        except BusError as error:
            log.error("rabbitmq_not_declared", why=str(error))
        await backoff.wait()


def _why(closing: "asyncio.Future[Any]", service: str) -> str:
    """Returns why the channel ended, if the broker said so."""
    error = closing.exception() if closing.done() and not closing.cancelled() else None
    if isinstance(error, ChannelAccessRefused):
        return f"RabbitMQ: {error}; {right_remedy(service)}"
    if isinstance(error, ChannelClosed):
        return f"RabbitMQ closed the channel ({error})"
    return "the connection was lost"


def _expire(channel: PublishChannel, call: Call, timeout: float) -> None:
    # Called by a timer of the loop: `asyncio.timeout` costs three times as much per message.
    channel.give_up(call, Unconfirmed(f"no answer within {timeout} s{MAYBE}"))


def _raise_failure(frame: Frame, call: Call) -> None:
    problem = call.failures.get(frame.id)
    if isinstance(problem, Unconfirmed):
        raise unanswered(frame, str(problem).removesuffix(MAYBE)) from None
    if problem is not None:
        raise problem


async def _untapped(message: Any) -> None:
    """Fails: the library would call it only for a reply that the reader has not taken."""
    raise AssertionError(f"a reply passed by the reader: {message.delivery_tag}")

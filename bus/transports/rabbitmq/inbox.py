"""Consumes one queue: deliveries go straight into a buffer, and are settled in few frames."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiormq.abc import AbstractChannel

from bus.common.backoff import Backoff
from bus.errors import BusError, TopologyMismatch
from bus.observe.log import Logger
from bus.transports.base import MOST_WAITING, Delivery, Frame, Inbox
from bus.transports.buffer import Buffer
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
from bus.transports.rabbitmq.frame_reader import DeliveryReader, FrameHandler

log = Logger("bus.rabbitmq")
_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 2.0
_MISMATCH_PAUSE = 5.0
_MULTIPLE, _REQUEUE = 1, 2
_KEPT = 63 / 64
"""The weight that the mean size keeps with each delivery."""
_WORTH_IT = 4
"""By which factor the prefetch must grow before a consumer starts again for it, which costs."""


class PrefetchWindow:
    """How many deliveries to prefetch, by their recent sizes: RabbitMQ counts them, not bytes."""

    def __init__(self, prefetch: int) -> None:
        self._wanted = prefetch
        self._mean = 0.0
        self.prefetch = prefetch
        """How many deliveries to ask for, the next time that it consumes."""

    def note(self, count: int, size: int) -> None:
        """Notes that `count` deliveries of `size` bytes together were settled."""
        if count:
            self._mean += (size / count - self._mean) * (1 - _KEPT**count)

    def narrows(self, count: int, size: int) -> bool:
        """Lowers the prefetch because `count` deliveries of `size` bytes are too much; returns
        False if fewer deliveries would not help, for a single one."""
        if count < 2:
            return False
        self._mean = max(self._mean, size / count)
        self.prefetch = max(1, min(self._fits(), self.prefetch))
        return True

    def is_narrow(self) -> bool:
        """Raises the prefetch if far more deliveries fit and are wanted; returns whether it did."""
        if self.prefetch == self._wanted:
            return False
        fitting = min(self._fits(), self._wanted)
        if fitting < _WORTH_IT * self.prefetch:
            return False
        self.prefetch = fitting
        return True

    def _fits(self) -> int:
        return int(MOST_WAITING / 2 / max(self._mean, 1.0))


class _Consuming(FrameHandler):
    """One consumer on one channel, until either is lost: a generation of the inbox."""

    def __init__(
        self,
        session: RabbitSession,
        channel: AbstractChannel,
        generation: int,
        inbox: "RabbitInbox",
    ) -> None:
        self.channel = channel
        self.generation = generation
        self.tag = f"{inbox.queue}.{generation}"
        self.lost = asyncio.Event()
        self.session = session
        self._accepted = False
        self._queue = inbox.queue
        self._buffer = inbox.buffer
        self._window = inbox.window
        self._unsettled: dict[int, int] = {}
        self._waiting = 0
        self._done: list[Delivery] = []
        self._delivery_reader = DeliveryReader()
        self._closed = False

    async def start(self, prefetch: int) -> None:
        self.session.reader.handlers[self.channel.number] = self
        self.channel.closing.add_done_callback(lambda _: self.lost.set())
        self.channel.on_consumer_cancel_callbacks.add(lambda _: self.lost.set())
        await genuine(self.channel.basic_qos(prefetch_count=prefetch))
        await genuine(self.channel.basic_consume(self._queue, _untapped, consumer_tag=self.tag))
        self._accepted = True

    @property
    def believed(self) -> bool:
        """Whether the broker accepted it, and has not said otherwise since."""
        return self._accepted and not self.lost.is_set() and self.session.alive

    @property
    def idle_since(self) -> tuple[int, int] | None:
        """The latest delivery (generation and tag) if all are settled."""
        return None if self._unsettled else (self.generation, self._delivery_reader.incoming.tag)

    async def cancel(self) -> None:
        """Asks for no more; all that the broker sent before is here when this returns."""
        async with asyncio.timeout(_TIMEOUT):
            await genuine(self.channel.basic_cancel(self.tag))

    async def close(self) -> None:
        self._acknowledge_done()
        number, handlers = self.channel.number, self.session.reader.handlers
        await finish(self.channel.close(), _CLOSE_TIMEOUT)
        if handlers.get(number) is self:  # else another channel has taken over the number
            del handlers[number]

    # -- what arrives

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind == frames.METHOD:
            method = frames.method(data, start)
            self._closed |= method == frames.CHANNEL_CLOSE
            if method != frames.DELIVER:
                return False
            self._delivery_reader.begin(data, start)
        elif frame := self._delivery_reader.receive(kind, data, start, end):
            self._add(frame)
        return True

    def _add(self, frame: Frame) -> None:
        if self.lost.is_set():
            return  # it comes again, like all that is unsettled
        incoming = self._delivery_reader.incoming
        size = len(frame.body)
        self._unsettled[incoming.tag] = size
        self._waiting += size
        if self._waiting > MOST_WAITING and self._window.narrows(
            len(self._unsettled), self._waiting
        ):
            self.lost.set()
        self._buffer.add(
            Delivery(
                frame,
                self._queue,
                incoming.tag,
                self.generation,
                incoming.redelivered,
                incoming.exchange,
            )
        )

    # -- what is settled

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges deliveries; those of one loop tick share their frames."""
        if not self._done:
            asyncio.get_running_loop().call_soon(self._acknowledge_done)
        self._done += deliveries

    def _acknowledge_done(self) -> None:
        done, self._done = self._done, []
        self.settle(frames.ACK, 0, done)

    def settle(self, method: tuple[int, int], bits: int, deliveries: Sequence[Delivery]) -> None:
        """Settles the oldest unsettled deliveries in one frame, the others in one frame each."""
        tags = sorted(
            {
                delivery.tag
                for delivery in deliveries
                if delivery.generation == self.generation and delivery.tag in self._unsettled
            }
        )
        # "Multiple" settles every tag up to the given one, so it may cover only an unbroken run
        # from the oldest: beyond a gap it would settle deliveries that are still being handled.
        prefix = 0
        for tag, oldest in zip(tags, self._unsettled, strict=False):
            if tag != oldest:
                break
            prefix += 1
        number = self.channel.number
        parts = [frames.settle(method, number, tag, bits) for tag in tags[prefix:]]
        if prefix:
            parts.insert(0, frames.settle(method, number, tags[prefix - 1], bits | _MULTIPLE))
        self._forget_and_write(tags, b"".join(parts))

    def reject(self, delivery: Delivery) -> None:
        if delivery.generation == self.generation and delivery.tag in self._unsettled:
            self._forget_and_write([delivery.tag], frames.reject(self.channel.number, delivery.tag))

    def _forget_and_write(self, tags: Sequence[int], data: bytes) -> None:
        settled = sum(map(self._unsettled.pop, tags))
        self._waiting -= settled
        self._window.note(len(tags), settled)
        if not self._unsettled and self._window.is_narrow():
            self.lost.set()
        if data and not self._closed and self.session.alive:
            self.session.writer.write(data)


async def _untapped(message: Any) -> None:
    """Fails: the library would call it only for a delivery that the reader has not taken."""
    raise AssertionError(f"a delivery passed by the reader: {message.delivery_tag}")


class RabbitInbox(Inbox):
    """The consumer of one queue; after a loss it consumes again by itself.

    It declares the topology first, because the queue may be gone, lack its bindings, or be a
    different queue of that name.
    """

    problem: str | None = None

    def __init__(self, link: Link, queue: str, prefetch: int, declaring: Declaring) -> None:
        self.queue = queue
        self.buffer = Buffer()
        self.started = asyncio.Event()
        self.window = PrefetchWindow(prefetch)
        self._declaring = declaring
        self._lost_at = 0.0
        self._consuming: _Consuming | None = None
        self._generation = 0
        self._stopped = False
        self._task = asyncio.create_task(
            attend(link, f"consuming {queue}", self._use), name=f"inbox {queue}"
        )

    @property
    def consuming(self) -> bool:
        return not self._stopped and self._consuming is not None and self._consuming.believed

    @property
    def idle_since(self) -> tuple[int, int] | None:
        return self._consuming.idle_since if self._consuming and self.consuming else None

    @property
    def generation(self) -> int | None:
        return self._consuming.generation if self._consuming else None

    def lose(self) -> None:
        """Gives up its consumer, if it has one, and starts another."""
        if self._consuming:
            self._consuming.lost.set()

    async def reopen(self, *, connection: bool = False) -> None:
        if connection and self.consuming:
            assert self._consuming is not None
            await self._consuming.session.close()
        else:
            self.lose()

    async def take(self, limit: int) -> list[Delivery]:
        return await self.buffer.take(limit)

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        if self._consuming:
            self._consuming.acknowledge(deliveries)

    async def reject(self, delivery: Delivery) -> None:
        if self._consuming:
            self._consuming.reject(delivery)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        if self._consuming:
            self._consuming.settle(frames.NACK, _REQUEUE, deliveries)

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._consuming:
            try:
                await self._consuming.cancel()
            except (Exception, TimeoutError) as error:
                log.debug("rabbitmq_cancel", queue=self.queue, error=type(error).__name__)
        self.buffer.stop()

    @property
    def closed(self) -> bool:
        return self._task.done()

    async def close(self) -> None:
        # Closing the channel gives everything back and hands over in one step. After a cancel, the
        # consumer that stands by would begin with later messages.
        self._stopped = True
        self.buffer.clear()
        self.buffer.stop()
        await stop(self._task)

    async def _use(self, session: RabbitSession, backoff: Backoff) -> None:
        if self._stopped:
            await asyncio.Event().wait()  # until `close` cancels it
        await self._declare(max(session.since, self._lost_at))
        self._generation += 1
        channel = await self._opened(session)
        consuming = _Consuming(session, channel, self._generation, self)
        try:
            await self._start(consuming)
            if self._stopped:  # while it started
                await consuming.cancel()
            backoff.reset()
            await consuming.lost.wait()
            if session.alive:  # else the connection's loss is logged already, once for all users
                log.warning("rabbitmq_consumer_lost", queue=self.queue)
        finally:
            self._lost_at = time.monotonic()
            self._consuming = None
            self.buffer.clear()  # they come again, with another generation
            await consuming.close()

    async def _opened(self, session: RabbitSession) -> AbstractChannel:
        async with asyncio.timeout(_TIMEOUT):
            return await session.channel(confirms=False)

    async def _declare(self, moment: float) -> None:
        try:
            await self._declaring.since(moment)
            self._declaring.check(self.queue)
        except BusError as error:
            self.problem = str(error)
            self._lost_at = time.monotonic()
            if isinstance(error, TopologyMismatch):
                await asyncio.sleep(_MISMATCH_PAUSE)
            raise
        self.problem = None

    async def _start(self, consuming: _Consuming) -> None:
        self._consuming = consuming
        async with asyncio.timeout(_TIMEOUT):
            await consuming.start(self.window.prefetch)
        self.started.set()

"""Consumers: the life of a queue's messages in a worker.

Both kinds read top to bottom: take what has arrived → decode → handle → settle. Outcome becomes
acknowledgement in one place of each, and nothing is settled that was not stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import structlog

from bus import ambient
from bus.codec import UNREAD, Registry, envelope_of, read_frame
from bus.delivery.deadletters import bury, repaired, repaired_in
from bus.delivery.lanes import Lanes
from bus.delivery.replies import Replies
from bus.delivery.retry import Tries, insist, never, outage, pauses
from bus.errors import InvalidMessage, MessageError, TransportUnavailable, UnknownMessage
from bus.log import current_attempt, current_handler
from bus.messages import Envelope
from bus.read.projector import Projector
from bus.stores.base import ReadStore
from bus.transports.base import Delivery, Inbox, Transport

WAIT = 1.0
FEW_TRIES = Tries()

log = structlog.get_logger("bus.consumer")


class Consumer(Protocol):
    """Consumes one queue until it is stopped."""

    queue: str

    @property
    def problem(self) -> str | None:
        """What keeps it from getting on just now."""
        ...

    @property
    def inbox(self) -> Inbox | None:
        """Where its messages come from, once it consumes."""
        ...

    async def run(self) -> None: ...

    async def stop(self, timeout: float) -> None: ...


class ProjectionConsumer:
    """Feeds one queue of a projection to its projector, in batches of what has arrived."""

    def __init__(
        self,
        queue: str,
        projector: Projector,
        transport: Transport,
        store: ReadStore,
        *,
        prefetch: int,
        batch: int,
    ) -> None:
        self.queue = queue
        self._projector = projector
        self._transport = transport
        self._store = store
        self._prefetch = prefetch
        self._batch = batch
        self._registry: Registry[Any] = projector.projection.registry()
        self._stopping = asyncio.Event()
        self._inbox: Inbox | None = None
        self._generation: int | None = None

    @property
    def problem(self) -> str | None:
        return None

    @property
    def inbox(self) -> Inbox | None:
        return self._inbox

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        self._inbox = await open_inbox(self._transport, self.queue, self._prefetch)
        try:
            while not self._stopping.is_set():
                deliveries = await self._take(self._inbox)
                if deliveries:
                    await insist(partial(self._project, deliveries), self.queue)
                    await self._settle(self._inbox, deliveries)
                await insist(self._projector.look, self.queue)
        finally:
            try:
                await self._inbox.close()
            finally:
                await self._projector.close()

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; the batch at hand is finished by `run`."""
        self._stopping.set()
        if self._inbox:
            await self._inbox.stop()

    async def _take(self, inbox: Inbox) -> list[Delivery]:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT):
                return await inbox.take(self._batch)
        return []

    async def _project(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries[-1].generation != self._generation:
            await self._projector.take_over()
            self._generation = deliveries[-1].generation
        envelopes, unreadable = await self._decode(deliveries)
        await self._projector.apply(envelopes)
        if unreadable:
            await self._projector.apply_streams(unreadable)
        await repaired_in(self._store, self._projector.projection, deliveries)

    async def _decode(self, deliveries: Iterable[Delivery]) -> tuple[list[Envelope], set[str]]:
        """The readable events, and the streams of which only the log can tell the truth."""
        envelopes: list[Envelope] = []
        unreadable: set[str] = set()
        for delivery in deliveries:
            try:
                envelopes.append(self._read(delivery))
            except MessageError as error:
                await bury(self._store, delivery, error, handler=self.queue, attempts=1)
                unreadable |= self._stream_of(delivery)
        return envelopes, unreadable

    def _read(self, delivery: Delivery) -> Envelope:
        try:
            return read_frame(delivery.frame, self._registry)
        except UnknownMessage:
            return envelope_of(delivery.frame, UNREAD)

    def _stream_of(self, delivery: Delivery) -> set[str]:
        with suppress(InvalidMessage):
            stream = envelope_of(delivery.frame, UNREAD).stream
            if stream.partition("-")[0] in self._projector.projection.categories:
                return {stream}
        return set()

    async def _settle(self, inbox: Inbox, deliveries: Sequence[Delivery]) -> None:
        with suppress(TransportUnavailable):
            await inbox.acknowledge(deliveries)


class HandlerConsumer:
    """Runs handlers with side effects: events of a router, or the service's commands.

    Up to `concurrency` at once, in order for each stream, each with a few tries before the message
    becomes a dead letter.
    """

    problem: str | None = None

    def __init__(
        self,
        queue: str,
        handle: Callable[[Envelope], Awaitable[object]],
        registry: Registry[Any],
        transport: Transport,
        store: ReadStore,
        *,
        prefetch: int,
        concurrency: int,
        tries: Tries = FEW_TRIES,
        replies: Replies | None = None,
    ) -> None:
        self.queue = queue
        self._handle = handle
        self._registry = registry
        self._transport = transport
        self._store = store
        self._prefetch = prefetch
        self._concurrency = concurrency
        self._tries = tries
        self._replies = replies
        self._stopping = asyncio.Event()
        self._inbox: Inbox | None = None
        self._grace = 0.0
        self._failure: Exception | None = None

    @property
    def inbox(self) -> Inbox | None:
        return self._inbox

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        inbox = self._inbox = await open_inbox(self._transport, self.queue, self._prefetch)
        lanes: Lanes[tuple[Delivery, Envelope]] = Lanes(
            self._concurrency, lambda item: self._process(inbox, *item)
        )
        try:
            while not self._stopping.is_set():
                for delivery in await inbox.take(self._prefetch):
                    await self._start(inbox, lanes, delivery)
                if self._failure:
                    raise self._failure
        except asyncio.CancelledError:
            self._grace = 0.0  # whoever stopped it waits no more
            raise
        finally:
            try:
                await lanes.stop(self._grace)
            finally:
                await inbox.close()

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; what is being handled is finished by `run`."""
        self._stopping.set()
        self._grace = timeout
        if self._inbox:
            await self._inbox.stop()

    async def _start(
        self, inbox: Inbox, lanes: Lanes[tuple[Delivery, Envelope]], delivery: Delivery
    ) -> None:
        try:
            envelope = read_frame(delivery.frame, self._registry)
        except UnknownMessage as error:
            left_over = delivery.frame.address == "events"
            await self._settle(inbox, delivery, None if left_over else error, attempts=1)
        except MessageError as error:
            await self._settle(inbox, delivery, error, attempts=1)
        else:
            lanes.put(envelope.stream or envelope.id, (delivery, envelope))

    async def _process(self, inbox: Inbox, delivery: Delivery, envelope: Envelope) -> None:
        current_handler.set(self.queue)
        error, attempts = await self._outcome(envelope)
        try:
            await self._settle(inbox, delivery, error, attempts)
        except Exception as failure:
            self._failure = failure
            await inbox.stop()

    async def _outcome(self, envelope: Envelope) -> tuple[Exception | None, int]:
        """Handles, with tries in place; returns the last error, or None, and the tries it took."""
        attempt = 1
        for pause in pauses(self._tries.pause):
            current_attempt.set(attempt)
            error = await self._try(envelope)
            if error is None or never(error) or attempt >= self._tries.of(error):
                return error, attempt
            attempt += not outage(error)
            await asyncio.sleep(pause)
        raise AssertionError("pauses are endless")

    async def _try(self, envelope: Envelope) -> Exception | None:
        try:
            await self._handle(envelope)
        except asyncio.CancelledError:
            if ambient.is_cancelled():
                raise
            return RuntimeError("something that the handler awaited was cancelled")
        except Exception as error:
            return error
        return None

    async def _settle(
        self, inbox: Inbox, delivery: Delivery, error: Exception | None, attempts: int
    ) -> None:
        """The one place where an outcome becomes an acknowledgement."""
        if self._replies is not None:
            error = await self._replies.settled(delivery, error)
        if error is not None:
            giving_up = partial(
                bury, self._store, delivery, error, handler=self.queue, attempts=attempts
            )
            await insist(giving_up, self.queue)
        else:
            await insist(partial(repaired, self._store, delivery), self.queue)
        with suppress(TransportUnavailable):
            await inbox.acknowledge([delivery])


async def open_inbox(transport: Transport, queue: str, prefetch: int) -> Inbox:
    """The queue's inbox, as soon as the broker is there."""
    for pause in pauses():
        try:
            return await transport.inbox(queue, prefetch=prefetch)
        except TransportUnavailable as error:
            log.warning("broker away; waiting to consume", queue=queue, reason=str(error))
        await asyncio.sleep(pause)
    raise AssertionError("pauses are endless")

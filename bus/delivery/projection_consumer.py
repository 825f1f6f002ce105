"""The life of a projection's queue in a worker.

Read it top to bottom: take what has arrived → decode → project → settle. Nothing is settled before
it is stored.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from bus.codec import DEAD_LETTER, Registry, envelope_of, read_frame, unread, unregistered
from bus.common.fingerprint import reason_of
from bus.continuity.continuity import Vouch
from bus.data.ids import category_of
from bus.delivery.consumer import QueueConsumer
from bus.delivery.foreign_events import Arrived, ForeignEvents
from bus.delivery.trust import Sorted, Trust
from bus.errors import (
    Discontinued,
    InvalidMessage,
    MessageError,
    NewerMessage,
    TransportUnavailable,
    UnknownMessage,
)
from bus.failures.deadletters import repaired_in
from bus.failures.give_up import GiveUp
from bus.failures.retry import Stopped, insist
from bus.messages import Envelope
from bus.observe.log import Logger
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.stores.collections import Collections
from bus.stores.control import Control
from bus.transports.base import Delivery, Inbox, Transport

WAIT = 1.0

log = Logger("bus.projecting")


class ProjectionConsumer(QueueConsumer):
    """Feeds one queue of a projection to its projector, in batches of what has arrived."""

    is_last = True  # handlers may be waiting for what it projects

    def __init__(
        self,
        queue: str,
        projector: Projector,
        transport: Transport,
        collections: Collections,
        control: Control,
        give_up: GiveUp,
        foreign_events: ForeignEvents,
        trust: Trust | None = None,
        *,
        prefetch: int,
        batch: int,
        vouch: Vouch | None = None,
    ) -> None:
        super().__init__(queue, transport, prefetch=prefetch, signals=projector.signals)
        self._projector = projector
        self._collections = collections
        self._control = control
        self._give_up = give_up
        self._foreign_events = foreign_events
        self._trust = trust
        self._batch = batch
        self._vouch = vouch
        self._registry: Registry[Any] = projector.projection.registry()
        self._generation: int | None = None
        self.behind = True
        """Whether more had arrived than one batch holds; True until anything is known."""

    @property
    def projection(self) -> Projection[Any]:
        """The projection that it feeds."""
        return self._projector.projection

    @property
    def holds(self) -> bool:
        """Whether the queue's messages come here, as far as any came: a queue has one consumer that
        gets them, and others that stand by."""
        inbox, latest = self._inbox, self._generation
        return inbox is not None and latest is not None and inbox.generation == latest

    @property
    def problem(self) -> str | None:
        try:
            self._projector.guard()
        except Discontinued as error:
            return str(error)
        return self._projector.trouble or super().problem

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        self._generation = None
        inbox = await self.open()
        try:
            while not self._stopping.is_set():
                deliveries = await self._take(inbox)
                if deliveries:
                    began = time.time()
                    project = partial(self._project, inbox, deliveries)
                    await insist(project, self._holding, self._stopping)
                    self._tell_projected(deliveries, began)
                    await self._settle(inbox, deliveries)
                await insist(self._projector.look, self._holding, self._stopping)
        except Stopped:
            pass
        finally:
            try:
                await inbox.close()
            finally:
                await self._projector.close()

    async def _take(self, inbox: Inbox) -> list[Delivery]:
        taken: list[Delivery] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT):
                taken = await self.take(inbox, self._batch)
        self.behind = len(taken) == self._batch
        return taken

    async def _project(self, inbox: Inbox, deliveries: Sequence[Delivery]) -> None:
        if deliveries[-1].generation != inbox.generation:
            # Their channel is gone: they come again, maybe to another consumer. If we insisted on
            # them, we would end that one's transactions, and it would end ours in turn.
            return
        if deliveries[-1].generation != self._generation:
            await self._projector.take_over()
            self._generation = deliveries[-1].generation
        if self._vouch:
            await self._vouch(self.queue, deliveries)
        believed, refused = await self._sorted(deliveries)
        envelopes, unreadable, foreign = self._decode(believed)
        await self._foreign_events.keep(foreign)
        await self._projector.apply(envelopes)
        doubtful = [*refused, *(delivery for delivery, _ in unreadable)]
        places = [place for delivery in doubtful for place in self._places(delivery)]
        if streams := {stream for stream, _ in places}:
            await self._projector.apply_streams(streams)
        for delivery, error in unreadable:
            await self._give_up_unless_logged(delivery, error)
        await repaired_in(
            self._collections,
            self._control,
            self._projector.projection,
            self._projector.target,
            deliveries,
            signals=self._projector.signals,
        )

    async def _sorted(self, deliveries: Sequence[Delivery]) -> Sorted:
        if self._trust is None:
            return Sorted(deliveries)
        categories = self._projector.projection.categories
        return await self._trust.sort(self.queue, deliveries, self._registry, categories)

    def _decode(
        self, deliveries: Iterable[Delivery]
    ) -> tuple[list[Envelope], list[tuple[Delivery, MessageError]], list[Arrived]]:
        """Returns the readable events; the unreadable ones, whose streams are then read from the
        log, with their errors; and other services' events, which must be stored."""
        envelopes: list[Envelope] = []
        unreadable: list[tuple[Delivery, MessageError]] = []
        foreign: list[Arrived] = []
        for delivery in deliveries:
            try:
                foreign += self._foreign_events.read(delivery)
                envelopes.append(self._read(delivery))
            except MessageError as error:
                unreadable.append((delivery, error))
        return envelopes, unreadable, foreign

    async def _give_up_unless_logged(self, delivery: Delivery, error: MessageError) -> None:
        """Gives a delivery up unless the log holds its event: that is applied from the log, or its
        stream is parked, which says why. A retry of a dead letter that fails is always given up,
        so that the letter has the new error."""
        if isinstance(error, NewerMessage):
            return
        frame = delivery.frame
        for stream, version in self._places(delivery) if DEAD_LETTER not in frame.headers else ():
            if await self._projector.holds(stream, version):
                if not self._projector.is_parked(stream):
                    log.warning(
                        "read_from_log",
                        queue=self.queue,
                        message=frame.name,
                        message_id=frame.id,
                        stream=stream,
                        version=version,
                        reason=reason_of(error)[:500],
                    )
                return
        await self._give_up(delivery, error, handler=self.queue, attempts=1, unread=True)

    def _read(self, delivery: Delivery) -> Envelope:
        try:
            own = self._trust is not None and self._trust.is_own(delivery.frame)
            return read_frame(delivery.frame, self._registry, written_here=own)
        except NewerMessage:
            raise
        except UnknownMessage:
            return envelope_of(delivery.frame, unregistered(delivery.frame, self._registry))

    def _places(self, delivery: Delivery) -> list[tuple[str, int]]:
        """Returns the place in the log that an event claims; none if the projection does not read
        that stream."""
        with suppress(InvalidMessage):
            envelope = envelope_of(delivery.frame, unread(""))
            if category_of(envelope.stream) in self._projector.projection.categories:
                return [(envelope.stream, envelope.version)]
        return []

    async def _settle(self, inbox: Inbox, deliveries: Sequence[Delivery]) -> None:
        with suppress(TransportUnavailable):
            await self.settle(inbox, deliveries)

    def _tell_projected(self, deliveries: Sequence[Delivery], began: float) -> None:
        if self.signals.tracer is not None:
            name = self._projector.projection.name
            self.signals.batch_of("project", name, began, (one.frame for one in deliveries))

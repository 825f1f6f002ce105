"""Projecting: the life of a projection's queue in a worker.

It reads top to bottom: take what has arrived → decode → project → settle; nothing is settled that
was not stored.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from bus.codec import Registry, envelope_of, read_frame, unread
from bus.continuity import Vouch
from bus.delivery.consumer import QueueConsumer
from bus.delivery.deadletters import repaired_in
from bus.delivery.faults import GiveUp
from bus.delivery.keeping import Arrived, Keeping
from bus.delivery.retry import Stopped, insist
from bus.delivery.trust import Sorted, Trust
from bus.errors import (
    Discontinued,
    InvalidMessage,
    MessageError,
    NewerMessage,
    TransportUnavailable,
    UnknownMessage,
)
from bus.messages import Envelope
from bus.read.projector import Projector
from bus.stores.base import ReadStore
from bus.transports.base import Delivery, Inbox, Transport

WAIT = 1.0


class ProjectionConsumer(QueueConsumer):
    """Feeds one queue of a projection to its projector, in batches of what has arrived."""

    def __init__(
        self,
        queue: str,
        projector: Projector,
        transport: Transport,
        store: ReadStore,
        give_up: GiveUp,
        keeping: Keeping,
        trust: Trust | None = None,
        *,
        prefetch: int,
        batch: int,
        vouch: Vouch | None = None,
    ) -> None:
        super().__init__(queue, transport, prefetch=prefetch)
        self._projector = projector
        self._store = store
        self._give_up = give_up
        self._keeping = keeping
        self._trust = trust
        self._batch = batch
        self._vouch = vouch
        self._registry: Registry[Any] = projector.projection.registry()
        self._generation: int | None = None
        self.behind = True
        """Whether more had arrived than one batch holds, or nothing is known yet."""

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
                    project = partial(self._project, inbox, deliveries)
                    await insist(project, self._holding, self._stopping)
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
                taken = await inbox.take(self._batch)
        self.behind = len(taken) == self._batch
        return taken

    async def _project(self, inbox: Inbox, deliveries: Sequence[Delivery]) -> None:
        if deliveries[-1].generation != inbox.generation:
            # They come again, maybe to another consumer by now. To insist on them would end the
            # transactions of that one, who would end ours in turn.
            return
        if deliveries[-1].generation != self._generation:
            await self._projector.take_over()
            self._generation = deliveries[-1].generation
        if self._vouch:
            await self._vouch(self.queue, deliveries)
        believed, refused = await self._sorted(deliveries)
        envelopes, unreadable, foreign = await self._decode(believed)
        for delivery in refused:
            unreadable |= self._stream_of(delivery)
        await self._keeping.keep(foreign)
        await self._projector.apply(envelopes)
        if unreadable:
            await self._projector.apply_streams(unreadable)
        await repaired_in(
            self._store, self._projector.projection, self._projector.target, deliveries
        )

    async def _sorted(self, deliveries: Sequence[Delivery]) -> Sorted:
        if self._trust is None:
            return Sorted(deliveries)
        categories = self._projector.projection.categories
        return await self._trust.sort(self.queue, deliveries, self._registry, categories)

    async def _decode(
        self, deliveries: Iterable[Delivery]
    ) -> tuple[list[Envelope], set[str], list[Arrived]]:
        """The readable events, the streams of which only the log can tell the truth, and what is to
        be kept for it is another service's."""
        envelopes: list[Envelope] = []
        unreadable: set[str] = set()
        foreign: list[Arrived] = []
        for delivery in deliveries:
            try:
                foreign += self._keeping.read(delivery)
                envelopes.append(self._read(delivery))
            except NewerMessage:
                unreadable |= self._stream_of(delivery)
            except MessageError as error:
                await self._give_up(delivery, error, handler=self.queue, attempts=1, unread=True)
                unreadable |= self._stream_of(delivery)
        return envelopes, unreadable, foreign

    def _read(self, delivery: Delivery) -> Envelope:
        try:
            own = self._trust is not None and self._trust.is_own(delivery.frame)
            return read_frame(delivery.frame, self._registry, written_here=own)
        except NewerMessage:
            raise
        except UnknownMessage:
            return envelope_of(delivery.frame, unread(delivery.frame.name))

    def _stream_of(self, delivery: Delivery) -> set[str]:
        with suppress(InvalidMessage):
            stream = envelope_of(delivery.frame, unread("")).stream
            if stream.partition("-")[0] in self._projector.projection.categories:
                return {stream}
        return set()

    async def _settle(self, inbox: Inbox, deliveries: Sequence[Delivery]) -> None:
        with suppress(TransportUnavailable):
            await inbox.acknowledge(deliveries)

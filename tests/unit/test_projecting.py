"""A projection's consumer, and deliveries that it has lost."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from bus.codec import frames_of
from bus.delivery.foreign_events import ForeignEvents
from bus.delivery.projection_consumer import ProjectionConsumer
from bus.errors import StoreUnavailable
from bus.failures.give_up import GiveUp
from bus.messages import Envelope
from bus.read.fold import Applied
from bus.read.projector import Projector
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.testing.contracts.projection_contract import Opened, accounts
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.transports.topology import Topology, projection_queues
from tests.unit.test_fold import stored
from tests.waiting import until

(QUEUE,) = projection_queues("bank", "accounts", ["account"], 1)


class Overtaken(Projector):
    """Fails at its first batch, whose deliveries are lost meanwhile: they come again."""

    transport: MemoryTransport
    batches = 0

    async def apply(self, arrived: Iterable[Envelope]) -> Applied:
        self.batches += 1
        if self.batches == 1:
            (inbox,) = self.transport.inboxes
            await inbox.reopen()
            raise StoreUnavailable("ended by the one who took over")
        return await super().apply(arrived)


def consumer_of(
    queue: str,
    projector: Projector,
    transport: MemoryTransport,
    collections: MemoryCollections,
    control: MemoryControl,
    give_up: GiveUp,
) -> ProjectionConsumer:
    """Takes ten at once, of this service's own events."""
    return ProjectionConsumer(
        queue,
        projector,
        transport,
        collections,
        control,
        give_up,
        ForeignEvents(None, (), give_up),
        prefetch=10,
        batch=10,
    )


async def test_a_batch_whose_deliveries_were_lost_is_not_insisted_on() -> None:
    projection, log = accounts(), MemoryEventLog()
    collections, control = MemoryCollections(), MemoryControl()
    target = projection.target()
    await collections.prepare(target)
    transport = MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    await transport.declare(Topology("bank", (QUEUE,)))
    writer = collections.writer(target, QUEUE.name)
    projector = Overtaken(projection, target, log, collections, control, writer)
    projector.transport = transport
    nobody = cast(GiveUp, None)
    consumer = consumer_of(QUEUE.name, projector, transport, collections, control, nobody)
    running = asyncio.create_task(consumer.run())
    commit = stored("account-a", [Opened(owner="Ada")])
    await log.append([commit])
    await transport.publish(frames_of(commit))

    async def settled() -> Any:
        applied = await collections.versions(target, ["account-a"]) == {"account-a": 1}
        return applied and not transport.inboxes[0].unsettled

    await until(settled, "what came again is applied and settled")
    assert projector.batches == 2
    await consumer.stop(1)
    await running

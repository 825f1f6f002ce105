"""The broker in memory, shared by event loops that end."""

import asyncio

from bus.common import clock
from bus.transports.base import Frame
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.transports.topology import Topology, command_queue
from tests.unit.virtual_time import run, virtual_time

QUEUE = command_queue("bank")
TOPOLOGY = Topology("bank", (QUEUE,))


def frame(id: str, address: str = "commands", topic: str = "command") -> Frame:
    return Frame(address, topic, id, "Pay", b"{}", clock.now(), id)


async def opened(broker: MemoryBroker) -> MemoryTransport:
    transport = MemoryTransport(broker, "bank")
    await transport.open()
    await transport.declare(TOPOLOGY)
    return transport


def test_what_a_loop_took_and_did_not_settle_comes_again_in_the_next_one() -> None:
    broker = MemoryBroker()

    async def takes() -> list[str]:
        transport = await opened(broker)
        inbox = await transport.inbox(QUEUE.name, prefetch=10)
        await transport.publish([frame("c1")], must_route=True)
        return [one.frame.id for one in await inbox.take(10)]

    assert asyncio.run(takes()) == ["c1"]

    async def takes_again() -> list[tuple[str, bool]]:
        transport = await opened(broker)
        inbox = await transport.inbox(QUEUE.name, prefetch=10)
        deliveries = [(one.frame.id, one.redelivered) for one in await inbox.take(10)]
        assert await transport.consumers(QUEUE.name) == 1
        await transport.close()
        return deliveries

    assert asyncio.run(takes_again()) == [("c1", True)]


def test_what_waits_for_a_later_try_outlives_the_loop_it_waits_in() -> None:
    broker = MemoryBroker()

    async def delays() -> None:
        transport = await opened(broker)
        await transport.publish([frame("c1", "delay.1s", QUEUE.name)])
        await transport.close()

    async def takes() -> list[str]:
        transport = await opened(broker)
        inbox = await transport.inbox(QUEUE.name, prefetch=10)
        deliveries = await asyncio.wait_for(inbox.take(10), 30)
        await transport.close()
        return [one.frame.id for one in deliveries]

    with virtual_time():
        run(delays())
        assert run(takes()) == ["c1"]

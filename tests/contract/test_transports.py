import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from bus.errors import TransportUnavailable
from bus.testing.contracts.transport_contract import TransportContract, TransportFactory
from bus.transports.base import Transport
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import Queue, Topology, command_queue


class TestMemoryTransport(TransportContract):
    @pytest.fixture
    async def transport_factory(self) -> AsyncIterator[TransportFactory]:
        broker = MemoryBroker()
        async with AsyncExitStack() as stack:

            async def opened(service: str) -> Transport:
                transport = MemoryTransport(broker, service)
                stack.push_async_callback(transport.close)
                await transport.open()
                return transport

            yield opened


class TestRabbitTransport(TransportContract):
    @pytest.fixture
    async def transport_factory(self, amqp_url: str) -> AsyncIterator[TransportFactory]:
        async with AsyncExitStack() as stack:

            async def opened(service: str) -> Transport:
                transport = RabbitTransport([amqp_url], service=service)
                stack.push_async_callback(transport.close)
                await transport.open()
                return transport

            yield opened

    async def test_questions_cut_off_leave_the_connection_of_all_consumers_as_it_was(
        self, transport_factory: TransportFactory, unique: str
    ) -> None:
        """A health probe, or the sentinel, may give up at any moment."""
        transport = await transport_factory(unique)
        queue = command_queue(unique)
        await transport.declare(Topology(unique, (queue,)))
        inbox = await transport.inbox(queue.name, prefetch=1)
        generation, cut = inbox.generation, 0
        for number in range(120):
            try:
                async with asyncio.timeout(0.0002 * (number % 20)):
                    await transport.consumers(queue.name)
            except TimeoutError:
                cut += 1
        assert cut > 20
        assert await transport.consumers(queue.name) == 1
        assert (inbox.generation, inbox.consuming) == (generation, True)

    async def test_what_the_broker_refuses_to_declare_is_an_error_of_ours(
        self, transport_factory: TransportFactory, unique: str
    ) -> None:
        """Any other would end whoever goes on trying in the background."""
        transport = await transport_factory(unique)
        nowhere = Queue(f"{unique}.q", "nowhere", ("topic",))
        with pytest.raises(TransportUnavailable, match="NOT_FOUND"):
            await transport.declare(Topology(unique, (nowhere,)))

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from bus.testing.transport_contract import TransportContract, TransportFactory
from bus.transports.base import Transport
from bus.transports.memory import MemoryBroker, MemoryTransport
from bus.transports.rabbitmq import RabbitTransport


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

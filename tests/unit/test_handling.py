"""The consumer of a queue whose handlers have side effects."""

import asyncio

import pytest

from bus import Envelope, Event, Reject, Router, ambient
from bus.delivery.faults import GiveUp
from bus.delivery.handling import HandlerConsumer
from bus.stores.memory import MemoryReadStore
from bus.transports.base import Delivery, Frame
from bus.transports.memory import MemoryBroker, MemoryTransport
from bus.transports.topology import Topology, handler_queue
from tests.waiting import until

QUEUE = handler_queue("bank", "mails", ["Rung"])


class Rung(Event):
    pass


class FailingOnce(GiveUp):
    """Fails at the first message, with an error that nobody foresaw."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.given_up: list[str] = []
        self.failed = False

    async def __call__(
        self, delivery: Delivery, error: BaseException, *, handler: str, attempts: int
    ) -> None:
        if not self.failed:
            self.failed = True
            raise self.error
        self.given_up.append(delivery.frame.id)


def rung(number: int) -> Frame:
    headers: dict[str, str | int] = {"stream": f"bell-{number}", "version": 1, "schema": 1}
    return Frame("events", "bell.Rung.0", f"r{number}", "Rung", b"{}", ambient.now(), "c", headers)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ZeroDivisionError, ZeroDivisionError), (asyncio.CancelledError, RuntimeError)],
)
async def test_a_consumer_that_is_started_again_leaves_its_failure_behind(
    error: type[BaseException], raised: type[Exception]
) -> None:
    transport = MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    await transport.declare(Topology("bank", (QUEUE,)))
    give_up, router = FailingOnce(error), Router("mails")

    async def handle(envelope: Envelope) -> None:
        raise Reject("no")

    consumer = HandlerConsumer(
        QUEUE.name,
        handle,
        lambda _: router,
        {"Rung": Rung},
        transport,
        MemoryReadStore(),
        give_up,
        prefetch=10,
        concurrency=2,
    )

    await transport.publish([rung(1)])
    with pytest.raises(raised):
        async with asyncio.timeout(30):
            await consumer.run()
    running = asyncio.create_task(consumer.run())
    await transport.publish([rung(2)])
    await until(lambda: give_up.given_up == ["r1", "r2"], "both are given up")
    await consumer.stop(1)
    await running

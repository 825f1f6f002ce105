"""The consumer of a queue whose handlers have side effects."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bus import Envelope, Event, Reject, Router
from bus.common import clock
from bus.declare.policies import AHEAD
from bus.delivery.handler_consumer import HandlerConsumer
from bus.failures.give_up import GiveUp
from bus.observe.listeners import Signals
from bus.observe.log import current_trace
from bus.observe.tracer import current_delivery
from bus.stores.memory import MemoryControl
from bus.transports.base import Delivery, Frame
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.transports.topology import Topology, handler_queue
from tests.waiting import until

QUEUE = handler_queue("bank", "mails", ["Rung"])


class Rung(Event):
    pass


class FailingOnce(GiveUp):
    """Fails at the first message, with an error that nobody foresaw."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.signals = Signals("bank")
        self.given_up: list[str] = []
        self.failed = False

    async def __call__(
        self,
        delivery: Delivery,
        error: BaseException,
        *,
        handler: str,
        attempts: int,
        unread: bool = False,
    ) -> None:
        if not self.failed:
            self.failed = True
            raise self.error
        self.given_up.append(delivery.frame.id)


def rung(number: int) -> Frame:
    headers: dict[str, str | int] = {"stream": f"bell-{number}", "version": 1, "schema": 1}
    return Frame("events", "bell.Rung.0", f"r{number}", "Rung", b"{}", clock.now(), "c", headers)


def consumer_of(
    handle: Callable[[Envelope], Awaitable[None]],
    transport: MemoryTransport,
    give_up: GiveUp,
    *,
    prefetch: int,
    concurrency: int,
) -> HandlerConsumer:
    router = Router("mails")
    return HandlerConsumer(
        QUEUE.name,
        handle,
        lambda _: router,
        {"Rung": Rung},
        transport,
        MemoryControl(),
        give_up,
        prefetch=prefetch,
        concurrency=concurrency,
    )


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
    give_up = FailingOnce(error)

    async def handle(envelope: Envelope) -> None:
        raise Reject("no")

    consumer = consumer_of(handle, transport, give_up, prefetch=10, concurrency=2)

    await transport.publish([rung(1)])
    with pytest.raises(raised):
        async with asyncio.timeout(30):
            await consumer.run()
    running = asyncio.create_task(consumer.run())
    await transport.publish([rung(2)])
    await until(lambda: give_up.given_up == ["r1", "r2"], "both are given up")
    await consumer.stop(1)
    await running


class Held:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, envelope: Envelope) -> None:
        self.begun.append(envelope.id)
        await self.go.wait()


async def test_of_a_channel_that_is_lost_only_what_runs_is_handled_and_that_once() -> None:
    """What waits comes again; what ran is acknowledged when it comes again, and not run."""
    transport = MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    await transport.declare(Topology("bank", (QUEUE,)))
    handle = Held()
    consumer = consumer_of(
        handle, transport, FailingOnce(AssertionError), prefetch=100, concurrency=1
    )
    running = asyncio.create_task(consumer.run())
    await transport.publish([rung(number) for number in range(10)])
    await until(lambda: handle.begun == ["r0"], "the first is begun")
    (inbox,) = transport.inboxes
    assert inbox.unsettled == AHEAD, "no more is taken than will be handled soon"
    for _ in range(3):
        await inbox.reopen()
    handle.go.set()
    await until(lambda: inbox.unsettled == 0, "all are settled")
    assert handle.begun == [f"r{number}" for number in range(10)]
    await consumer.stop(1)
    await running


async def test_a_lane_forgets_its_last_trace_when_there_is_no_tracer_any_more() -> None:
    transport = MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    await transport.declare(Topology("bank", (QUEUE,)))
    give_up = FailingOnce(AssertionError)
    seen = list[tuple[bool, str]]()

    async def handle(envelope: Envelope) -> None:
        seen.append((current_delivery.get() is not None, current_trace.get()))
        current_trace.set("a trace")

    consumer = consumer_of(handle, transport, give_up, prefetch=10, concurrency=1)
    tracer: Any = SimpleNamespace(share=0.0, ambient=lambda: None)
    consumer.signals.trace(tracer)
    running = asyncio.create_task(consumer.run())
    await transport.publish([rung(1), rung(2)])
    await until(lambda: len(seen) == 2, "two are handled")
    consumer.signals.trace(None)
    await transport.publish([rung(3)])
    await until(lambda: len(seen) == 3, "the third is handled")
    await consumer.stop(1)
    await running
    assert seen == [(True, ""), (True, ""), (False, "")]

"""What a worker expects of each queue's consumer, and how consumers start; each is a duty."""

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from bus.common import clock
from bus.common.backoff import pauses
from bus.errors import TransportUnavailable
from bus.failures.retry import Holding, Stopped, insist
from bus.lifecycle.duty import Duty, Supervisor
from bus.observe.health import Check
from bus.observe.listeners import Signals
from bus.observe.log import Logger
from bus.observe.signals import Received, Settled, Settling
from bus.transports.base import EPOCH, Delivery, Frame, Inbox, Transport

PREFETCH = 100
STRAIGHT = ("events", "commands")

log = Logger("bus.consumer")


class Consumer(Protocol):
    """Consumes one queue until it is stopped."""

    queue: str
    is_last: bool

    @property
    def checks(self) -> Sequence[Check]:
        """What health asks of it, besides whether it consumes."""
        ...

    @property
    def problem(self) -> str | None:
        """What holds it up at present, if anything."""
        ...

    @property
    def inbox(self) -> Inbox | None:
        """Where its messages come from; None until it consumes."""
        ...

    async def run(self) -> None: ...

    async def stop(self, timeout: float) -> None: ...


class QueueConsumer:
    """What all consumers share: a queue, its inbox once they consume, and how they stop."""

    is_last = False

    def __init__(
        self,
        queue: str,
        transport: Transport,
        *,
        prefetch: int = PREFETCH,
        signals: Signals | None = None,
    ) -> None:
        self.queue = queue
        self.signals = signals or Signals()
        self._transport = transport
        self._prefetch = prefetch
        self._stopping = asyncio.Event()
        self._inbox: Inbox | None = None
        self._holding = Holding(queue)

    @property
    def checks(self) -> Sequence[Check]:
        return ()

    @property
    def problem(self) -> str | None:
        return self._holding.reason

    @property
    def inbox(self) -> Inbox | None:
        return self._inbox

    async def open(self) -> Inbox:
        """Opens the queue's inbox and returns it, as soon as the broker is there."""
        for pause in pauses():
            try:
                self._inbox = await self._transport.inbox(self.queue, prefetch=self._prefetch)
                return self._inbox
            except TransportUnavailable as error:
                log.warning("broker_away", queue=self.queue, reason=str(error))
            await asyncio.sleep(pause)
        raise AssertionError("pauses are endless")

    async def take(self, inbox: Inbox, most: int) -> list[Delivery]:
        """Returns what has arrived, at most so much of it, as soon as there is anything; or nothing
        once the inbox stops."""
        taken = await inbox.take(most)
        if taken:
            self._tell_received(taken)
        return taken

    def settle(
        self, inbox: Inbox, deliveries: Sequence[Delivery], outcome: Settling = "done"
    ) -> Awaitable[None]:
        """Acknowledges messages. Raises: TransportUnavailable."""
        signals = self.signals
        if Settled in signals.wanted or signals.tracer is not None:
            return self._settle_told(inbox, deliveries, outcome)
        return inbox.acknowledge(deliveries)  # a coroutine less for each message

    async def _settle_told(
        self, inbox: Inbox, deliveries: Sequence[Delivery], outcome: Settling
    ) -> None:
        signals, began = self.signals, time.time()
        await inbox.acknowledge(deliveries)
        if Settled in signals.wanted:
            signals.emit(Settled, self.queue, len(deliveries), outcome)
        if signals.tracer is not None:
            signals.batch_of("settle", self.queue, began, (one.frame for one in deliveries))

    def _tell_received(self, taken: Sequence[Delivery]) -> None:
        signals = self.signals
        if Received in signals.wanted:
            signals.emit(
                Received,
                self.queue,
                messages=len(taken),
                size=sum(len(one.frame.body) for one in taken),
                oldest=age_of([one.frame for one in taken]),
                redelivered=sum(one.redelivered for one in taken),
            )
        if signals.tracer is not None:
            signals.batch_of("receive", self.queue, time.time(), (one.frame for one in taken))

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; `run` finishes what is at hand."""
        self._stopping.set()
        if self._inbox:
            await self._inbox.stop()


def age_of(frames: Iterable[Frame]) -> float | None:
    """Returns how many seconds ago the oldest of those was made that came straight from who made
    them and say when; None if there is none. Others were meant to wait: retries, delays."""
    now, told = clock.now(), [frame for frame in frames if frame.time != EPOCH]
    return max((frame.age(now) for frame in told if frame.address in STRAIGHT), default=None)


class BatchConsumer(QueueConsumer):
    """Takes what has arrived in a queue, processes it, and then settles it.

    Subclasses write `process`, which is repeated for as long as a service is away.
    """

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        """Processes a batch. Idempotent."""
        raise NotImplementedError

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        inbox = await self.open()
        try:
            while not self._stopping.is_set():
                if deliveries := await self.take(inbox, self._prefetch):
                    await insist(partial(self.process, deliveries), self._holding, self._stopping)
                    with suppress(TransportUnavailable):
                        await self.settle(inbox, deliveries)
        except Stopped:
            pass
        finally:
            await inbox.close()


class Consumers:
    """The consumers of a worker's queues, which come and go; each is a duty of its own."""

    def __init__(self, supervisor: Supervisor, transport: Transport) -> None:
        self._supervisor = supervisor
        self._transport = transport
        self._duties: dict[Consumer, Duty] = {}

    def __iter__(self) -> Iterator[Consumer]:
        return iter(list(self._duties))

    def duty(self, consumer: Consumer) -> Duty:
        """Returns the duty that, once it is started, consumes."""
        self._duties[consumer] = duty = Duty(
            consumer.queue,
            consumer.run,
            checks=[consumer_check(consumer, self._transport), *consumer.checks],
            stop=consumer.stop,
            is_last=consumer.is_last,
        )
        return duty

    def start(self, consumer: Consumer) -> None:
        """Starts to consume."""
        self._supervisor.start(self.duty(consumer))

    async def finish(self, consumers: Collection[Consumer], deadline: float) -> None:
        """Stops these, and waits until the deadline (`time.monotonic`) for them to finish what they
        have at hand. Keeps those that do not finish in time."""
        duties = {one: self._duties[one] for one in consumers if one in self._duties}
        await self._supervisor.finish(duties.values(), deadline)
        for consumer, duty in duties.items():
            if duty not in self._supervisor:
                self._duties.pop(consumer, None)


def consumer_check(consumer: Consumer, transport: Transport) -> Check:
    """Returns the check that a queue's messages arrive here and are worked off."""

    async def ask() -> str | None:
        inbox = consumer.inbox
        missed = inbox is not None and await forgotten(inbox, transport)
        if inbox is None or not inbox.consuming:  # it may have been lost while the broker was asked
            why = inbox.problem if inbox else None
            return f"it is not being consumed just now{': ' if why else ''}{why or ''}"
        return "the broker knows no consumer of ours" if missed else consumer.problem

    return Check(f"queue {consumer.queue}", ask, "ready")


async def forgotten(inbox: Inbox, transport: Transport) -> bool:
    """Returns whether the inbox believes that it consumes, but the broker knows of no consumer.

    Raises: TransportUnavailable.
    """
    if not inbox.consuming:
        return False
    known = await transport.consumers(inbox.queue)
    return not known and inbox.consuming

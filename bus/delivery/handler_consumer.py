"""The life, in a worker, of a queue whose handlers have side effects.

Read it top to bottom: take what has arrived → decode → handle, retrying in place → settle.
Outcome becomes acknowledgement in one place.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from bus.codec import ATTEMPT, DEAD_LETTER, RETURNED, WAITED, Registry, read_frame
from bus.common.backoff import pauses
from bus.common.exceptions import judged, outage, own, reported
from bus.common.fingerprint import failure_of
from bus.common.tasks import Lanes, TurningTime
from bus.continuity.continuity import Vouch
from bus.declare.policies import AHEAD, policy_for
from bus.declare.router import Router
from bus.delivery.again import RecentlyHandled, Suspects
from bus.delivery.consumer import PREFETCH, QueueConsumer
from bus.delivery.drain import DeliveryLimitReached
from bus.delivery.replies import ReplySender
from bus.delivery.trust import Sorted, Trust
from bus.errors import MessageError, NewerMessage, Retry, TransportUnavailable, UnknownMessage
from bus.failures.deadletters import repaired
from bus.failures.give_up import GiveUp
from bus.failures.releases import Waiting, never_came, wait_of, waited_by
from bus.failures.retry import Step, Stopped, insist, is_last, next_step
from bus.messages import Envelope
from bus.observe.log import current_attempt, current_handler, current_trace
from bus.observe.signals import PutOff, Retried, Settling
from bus.observe.tracer import current_delivery
from bus.stores.control import Control
from bus.transports.base import Delivery, Inbox, Transport
from bus.transports.topology import DELIVERY_LIMIT, rung

UNKNOWN_FOR = 3600.0
"""For how many seconds commands of unknown names wait if too many are dead letters already."""

RELEASE_WITHIN = 24 * 3600.0


class Handled(NamedTuple):
    """What came of handling a message: done if there is no error; otherwise what follows.

    `waited`: for how many seconds it will then have waited for another release of the code.
    `unread`: no handler had it, because nobody here can read it.
    """

    error: BaseException | None
    attempts: int
    step: Step = Step()
    waited: int = 0
    unread: bool = False


class HandlerConsumer(QueueConsumer):
    """Runs handlers with side effects: events of a router, or the service's commands.

    Runs up to `concurrency` at once, in order for each stream. A message that fails is tried again
    as its router's policy says, first in place, then by the delay ladder, before it is given up.
    """

    def __init__(
        self,
        queue: str,
        handle: Callable[[Envelope], Awaitable[object]],
        router_of: Callable[[Envelope], Router],
        registry: Registry[Any],
        transport: Transport,
        control: Control,
        give_up: GiveUp,
        *,
        prefetch: int,
        concurrency: int,
        replies: ReplySender | None = None,
        trust: Trust | None = None,
        vouch: Vouch | None = None,
        release_within: float = RELEASE_WITHIN,
    ) -> None:
        # A message taken here may wait for all those before it. If it waited for longer than the
        # broker's consumer_timeout, the broker would close the channel. So few are taken ahead.
        at_hand = min(prefetch, PREFETCH, AHEAD * concurrency)
        super().__init__(queue, transport, prefetch=at_hand, signals=give_up.signals)
        self.waiting = Waiting(queue)
        self._release_within = release_within
        self._handle = handle
        self._router_of = router_of
        self._registry = registry
        self._control = control
        self._give_up = give_up
        self._concurrency = concurrency
        self._replies = replies
        self._trust = trust
        self._vouch = vouch
        self._grace = 0.0
        self._failure: Exception | None = None
        self._handled = RecentlyHandled()
        self._suspects = Suspects(control, queue)

    async def run(self) -> None:
        """Consumes until stopped; outages of broker and database only delay it."""
        self._failure = None
        inbox = await self.open()
        lanes: Lanes[tuple[Delivery, Envelope]] = Lanes(
            self._concurrency,
            lambda item: self._process(inbox, *item),
            partial(self._failed, inbox),
        )
        try:
            while not self._stopping.is_set():
                taken = await self.take(inbox, self._prefetch)
                if taken and self._vouch:
                    vouch = partial(self._vouch, self.queue, taken)
                    await insist(vouch, self._holding, self._stopping)
                for delivery in await self._believed(inbox, taken):
                    await self._start(inbox, lanes, delivery)
                if self._failure:
                    raise self._failure
        except Stopped:
            pass
        except asyncio.CancelledError:
            self._grace = 0.0  # nobody waits for it any more
            raise
        finally:
            try:
                await lanes.stop(self._grace)
            finally:
                await inbox.close()

    async def _failed(self, inbox: Inbox, error: Exception) -> None:
        """Lets `run` raise the error that ended a lane, so that the whole consumer restarts."""
        self._failure = error
        await inbox.stop()

    async def stop(self, timeout: float) -> None:
        """Takes nothing more; `run` finishes what is being handled, within so many seconds."""
        self._grace = timeout
        await super().stop(timeout)

    async def _believed(self, inbox: Inbox, taken: Sequence[Delivery]) -> Sequence[Delivery]:
        """Returns what may be handled; refuses and settles the rest."""
        if self._trust is None or not taken:
            return taken
        found = Sorted(taken)

        async def sort(trust: Trust) -> None:
            nonlocal found
            found = await trust.sort(self.queue, taken, self._registry)

        await insist(partial(sort, self._trust), self._holding, self._stopping)
        with suppress(TransportUnavailable):
            for delivery in found.refused:  # one by one: others before them may be unsettled
                await self.settle(inbox, [delivery], "given_up")
        return found.believed

    async def _start(
        self, inbox: Inbox, lanes: Lanes[tuple[Delivery, Envelope]], delivery: Delivery
    ) -> None:
        try:
            envelope = self._read(delivery)
        except UnknownMessage as error:
            outcome = self._unread(delivery, error)._replace(unread=True)
            await self._settle(inbox, delivery, outcome)
        except MessageError as error:
            await self._settle(inbox, delivery, Handled(error, 1, unread=True))
        else:
            lanes.put(envelope.stream or envelope.id, (delivery, envelope))

    def _read(self, delivery: Delivery) -> Envelope:
        """Raises: UnknownMessage, MessageError."""
        own = self._trust is not None and self._trust.is_own(delivery.frame)
        return read_frame(delivery.frame, self._registry, written_here=own)

    async def _process(self, inbox: Inbox, delivery: Delivery, envelope: Envelope) -> None:
        if delivery.generation != inbox.generation:
            return  # its channel is gone and it comes again: now it would take effect twice
        if self.signals.tracer is not None:
            current_delivery.set(delivery)
            current_trace.set("")  # of the one before: a lane keeps its context
        elif current_delivery.get() is not None:  # there was a tracer
            current_delivery.set(None)
            current_trace.set("")
        if current_handler.get() != self.queue:  # else set already: a lane keeps its context
            current_handler.set(self.queue)
        try:
            if self._handled.includes(delivery):
                await self._acknowledge(inbox, delivery, "done")
                return
            if RETURNED in delivery.frame.headers:
                outcome = await self._suspected(envelope, delivery)
            else:
                outcome = await self._outcome(delivery, envelope)
            await self._settle(inbox, delivery, outcome)
        except Stopped:
            pass

    async def _suspected(self, envelope: Envelope, delivery: Delivery) -> Handled:
        """Handles what RabbitMQ gave up once, unless it has killed its worker too often since."""
        begun = 0

        async def begin() -> None:
            nonlocal begun
            begun = await self._suspects.begin(delivery.frame.id)

        await insist(begin, self._holding, self._stopping)
        if begun > DELIVERY_LIMIT:
            why = f"its handling was begun {begun - 1} times, and ended in no result"
            return Handled(DeliveryLimitReached(why), begun - 1)
        return await self._outcome(delivery, envelope)

    async def _outcome(self, delivery: Delivery, envelope: Envelope) -> Handled:
        """Handles a message, retrying in place, until it is clear what becomes of it."""
        router = self._router_of(envelope)
        attempt, while_away = attempts_of(delivery) + 1, pauses()
        changed: Delivery | None = None
        while True:
            if current_attempt.get() != attempt:
                current_attempt.set(attempt)
            error = await self._try(envelope, router.time_limit, changed)
            if error is not None and not envelope.message.wire_flat:
                changed = delivery
            if error is not None and outage(error):
                self._hold_on_unless_stopping(envelope, error)
                await asyncio.sleep(next(while_away))
                continue
            self._holding.over(envelope.id)
            if error is None:
                return Handled(None, attempt)
            cause = judged(error)
            if isinstance(cause, NewerMessage):  # of its aggregate's events, say
                return self._unread(delivery, cause)
            policy = policy_for(error, router.retry)
            step = next_step(cause, attempt, policy)
            last = is_last(cause, attempt, policy)
            self._report(envelope, reported(error), step, attempt, last=last)
            if step.pause is None:
                return Handled(reported(error), attempt, step)
            attempt += 1
            await asyncio.sleep(step.pause)

    def _report(
        self, envelope: Envelope, error: BaseException, step: Step, attempt: int, *, last: bool
    ) -> None:
        """Emits a signal for a failed try, unless it was the last: the dead letter has its own."""
        if step == Step():
            return
        after = (step.pause if step.delay is None else step.delay) or 0.0
        emit, place = self.signals.emit, (self.queue, envelope.name, envelope.id, attempt)
        if isinstance(error, Retry):
            emit(PutOff, *place, delay=after)
            return
        failure = failure_of(error, envelope.name, "")
        emit(
            Retried,
            *place,
            error=failure.error,
            reason=failure.reason[:500],
            raised_in=failure.frames,
            after=round(after, 3),
            in_place=step.delay is None,
            is_last=last,
        )

    def _unread(self, delivery: Delivery, error: UnknownMessage) -> Handled:
        """Has it wait for a release of the code that can read it, unless it has waited too long."""
        attempts, frame = attempts_of(delivery), delivery.frame
        if delay := wait_of(frame, self._release_within):
            self.waiting.note(frame.name, error)
            return Handled(error, attempts, Step(delay=delay), waited_by(frame) + delay)
        return Handled(never_came(error, waited_by(frame)), max(attempts, 1))

    def _hold_on_unless_stopping(self, envelope: Envelope, error: BaseException) -> None:
        self._holding.on(envelope.id, error)
        if self._stopping.is_set():
            self._holding.over(envelope.id)
            raise Stopped

    async def _try(
        self, envelope: Envelope, time_limit: float, changed: Delivery | None
    ) -> BaseException | None:
        """Returns what the handler's code raised, even by `sys.exit`, or None.

        A message that a former try may have `changed` is read again first.
        """
        limit = TurningTime(time_limit, spares_waits=True)
        try:
            if changed is not None:
                envelope = self._read(changed)
            async with limit:
                await self._handle(envelope)
        except TimeoutError as error:
            if not limit.expired:
                return error
            return TimeoutError(f"it took longer than its time limit of {time_limit:g} s")
        except BaseException as error:
            if not own(error):
                raise
            if isinstance(error, asyncio.CancelledError):
                return RuntimeError("something that the handler awaited was cancelled")
            return error
        return None

    async def _settle(self, inbox: Inbox, delivery: Delivery, outcome: Handled) -> None:
        """Acknowledges a message: the one place where an outcome becomes an acknowledgement."""
        error = outcome.error
        became: Settling = "done"
        if self._replies is not None and not outcome.waited:
            error = await self._replies.settled(delivery, error)
        if error is not None:
            follow_up = partial(self._follow_up, delivery, error, outcome)
            became = await insist(follow_up, self._holding, self._stopping)
        elif DEAD_LETTER in delivery.frame.headers:
            settled = partial(repaired, self._control, delivery, signals=self.signals)
            await insist(settled, self._holding, self._stopping)
        if RETURNED in delivery.frame.headers:
            over = partial(self._suspects.over, delivery.frame.id)
            await insist(over, self._holding, self._stopping)
        # First: if the acknowledgement is lost, the message comes again and would be handled again.
        self._handled.add(delivery)
        await self._acknowledge(inbox, delivery, became)

    async def _acknowledge(self, inbox: Inbox, delivery: Delivery, became: Settling) -> None:
        try:
            await self.settle(inbox, [delivery], became)
        except TransportUnavailable:
            return  # it comes again, and `_handled` recognises it then

    async def _follow_up(
        self, delivery: Delivery, error: BaseException, outcome: Handled
    ) -> Settling:
        """Puts the message off to a later try, or gives it up; returns which of them."""
        delay, attempts, unread = outcome.step.delay, outcome.attempts, outcome.unread
        added: dict[str, str | int] = {ATTEMPT: attempts}
        if outcome.waited:
            added[WAITED] = outcome.waited
        elif unread and isinstance(error, UnknownMessage):  # of a release to come, perhaps
            unread = False
            if not self._give_up.has_room(delivery):
                delay = UNKNOWN_FOR
        if delay is not None and await self._put_off(delivery, delay, added):
            return "put_off"
        await self._give_up(delivery, error, handler=self.queue, attempts=attempts, unread=unread)
        return "given_up"

    async def _put_off(
        self, delivery: Delivery, delay: float, added: Mapping[str, str | int]
    ) -> bool:
        """Puts a copy on the delay ladder; returns False if it cannot travel (any more).

        Raises: TransportUnavailable.
        """
        headers = {k: v for k, v in delivery.frame.headers.items() if k != RETURNED}
        frame = delivery.frame._replace(
            address=f"delay.{rung(delay)}s",
            topic=self.queue,
            headers={**headers, **added},
        )
        began = time.time()
        failure = (await self._transport.publish([frame], must_route=True)).get(frame.id)
        if isinstance(failure, TransportUnavailable):
            raise failure
        ladder = f"{self.signals.service}.{frame.address}"
        error = "" if failure is None else type(failure).__name__
        self.signals.batch_of("send", ladder, began, [frame], error)
        return failure is None


def attempts_of(delivery: Delivery) -> int:
    """Returns how many tries a message had before it came here by the delay ladder."""
    attempts = delivery.frame.headers.get(ATTEMPT, 0)
    return attempts if isinstance(attempts, int) and attempts > 0 else 0

"""Moves messages that RabbitMQ gave up into the dead letters, or back to their queue.

Those that were only delivered too often without being settled go back: the broker also counts
channels that closed and workers that were stopped, which are no failures of the message.
"""

import time
from collections import Counter
from collections.abc import Collection, Sequence

from bus.codec import RETURNED
from bus.delivery.consumer import BatchConsumer
from bus.delivery.trust import Trust
from bus.errors import MessageError, TransportUnavailable
from bus.failures.give_up import GiveUp
from bus.observe.health import Check
from bus.observe.log import Logger
from bus.transports.base import DEATH_QUEUE, DEATH_REASON, Delivery, Transport

LIMIT = "delivery_limit"
REMEMBERED = 600.0
"""For how many seconds health reports messages that a policy took away."""

log = Logger("bus.drain")


class GivenUp(MessageError):
    """RabbitMQ took the message out of its queue."""


class DeliveryLimitReached(GivenUp):
    """It was delivered repeatedly and never settled: handling it seems to kill its worker."""


class Expired(GivenUp):
    """It waited in its queue for longer than a policy of RabbitMQ allows."""


class QueueTooLong(GivenUp):
    """Its queue was longer than a policy of RabbitMQ allows, and it was the oldest there."""


_ERRORS: dict[str, tuple[type[GivenUp], str]] = {
    LIMIT: (DeliveryLimitReached, "delivered too often without being settled"),
    "expired": (Expired, "expired in its queue (message-ttl)"),
    "maxlen": (QueueTooLong, "its queue was too long (max-length with drop-head)"),
}


class DeadQueueConsumer(BatchConsumer):
    """Empties the service's dead queue.

    `counting` are the queues whose consumers count how often they begin a message that was given
    back to them (see `Suspects`); to other queues the same message is given back only once.
    """

    def __init__(
        self,
        queue: str,
        transport: Transport,
        give_up: GiveUp,
        trust: Trust | None = None,
        *,
        counting: Collection[str] = (),
    ) -> None:
        super().__init__(queue, transport, signals=give_up.signals)
        self._counting = counting
        self._own = f"{queue.removesuffix('.dead')}."
        self._give_up = give_up
        self._trust = trust
        self._taken: Counter[str] = Counter()
        self._taken_at = 0.0

    @property
    def checks(self) -> Sequence[Check]:
        return [Check("policies", self._problem_with_policies)]

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        reasons = {died.tag: str(died.frame.headers.get(DEATH_REASON)) for died in deliveries}
        for died in await self._believed([self._as_it_was(died) for died in deliveries]):
            reason = reasons[died.tag]
            if reason != LIMIT or not await self._give_back(died.queue, died):
                await self._bury(died.queue, reason, died)

    async def _give_back(self, queue: str, died: Delivery) -> bool:
        """Sends it to its queue once more; returns False if it must not go there, or cannot.

        Raises: TransportUnavailable.
        """
        if queue == self.queue or not queue.startswith(self._own):
            return False
        if RETURNED in died.frame.headers and queue not in self._counting:
            return False
        headers = {**died.frame.headers, RETURNED: 1}
        frame = died.frame._replace(address="queue", topic=queue, headers=headers)
        failure = (await self._transport.publish([frame], must_route=True)).get(frame.id)
        if isinstance(failure, TransportUnavailable):
            raise failure
        if failure is None:
            log.warning("unsettled_resent", queue=queue, message_id=frame.id)
        return failure is None

    async def _bury(self, queue: str, reason: str, died: Delivery) -> None:
        kind, why = _ERRORS.get(reason, (GivenUp, reason))
        if reason != LIMIT:
            self._taken[f"{queue}: {why}"] += 1
            self._taken_at = time.monotonic()
        await self._give_up(died, kind(f"given up by RabbitMQ: {why}"), handler=queue, attempts=0)

    async def _problem_with_policies(self) -> str | None:
        if time.monotonic() - self._taken_at > REMEMBERED:
            self._taken.clear()
        if not self._taken:
            return None
        taken = "; ".join(f"{count} from {what}" for what, count in self._taken.most_common(5))
        return (
            f"RabbitMQ takes messages away: {taken}. They are dead letters now; see `rabbitmqctl "
            f"list_policies`, and let none match this service's queues, {self.queue} least of all"
        )

    async def _believed(self, died: Sequence[Delivery]) -> Sequence[Delivery]:
        """Returns the commands, and the events that `trust` believes: anybody who may publish here
        could claim that an event had died."""
        events = [delivery for delivery in died if "stream" in delivery.frame.headers]
        if self._trust is None or not events:
            return died
        believed, refused = await self._trust.sort(self.queue, events, {})
        known = {event.tag: event for event in believed}
        gone = {event.tag for event in refused}
        kept = (delivery for delivery in died if delivery.tag not in gone)
        return [known.get(delivery.tag, delivery) for delivery in kept]

    def _as_it_was(self, delivery: Delivery) -> Delivery:
        """Returns the delivery as it left the queue that gave it up; if the queue named there is
        not the service's own, it is not believed, and the dead queue takes its place."""
        headers = dict(delivery.frame.headers)
        headers.pop(DEATH_REASON, None)
        queue = str(headers.pop(DEATH_QUEUE, ""))
        if not queue.startswith(self._own):
            queue = delivery.queue
        frame = delivery.frame._replace(address="", headers=headers)
        return delivery._replace(queue=queue, frame=frame, exchange="")

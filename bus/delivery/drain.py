"""Drain: what the broker itself gave up, for it was delivered too often in vain, becomes a dead
letter like all others."""

from collections.abc import Sequence

from bus.delivery.consumer import BatchConsumer
from bus.delivery.faults import GiveUp
from bus.errors import MessageError
from bus.transports.base import DEATH_QUEUE, DEATH_REASON, Delivery, Transport


class DeliveryLimitReached(MessageError):
    """Delivered again and again, and never settled: whoever took it ended before."""


class DeadQueueConsumer(BatchConsumer):
    """Empties the service's dead queue into the dead letters."""

    def __init__(self, queue: str, transport: Transport, give_up: GiveUp) -> None:
        super().__init__(queue, transport)
        self._give_up = give_up

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            await self._bury(delivery)

    async def _bury(self, delivery: Delivery) -> None:
        queue, reason, died = _as_it_was(delivery)
        error = DeliveryLimitReached(f"given up by the broker: {reason}")
        await self._give_up(died, error, handler=queue, attempts=0)


def _as_it_was(delivery: Delivery) -> tuple[str, str, Delivery]:
    """The queue that gave it up, why, and the delivery as that queue made it."""
    headers = dict(delivery.frame.headers)
    queue = str(headers.pop(DEATH_QUEUE, delivery.queue))
    reason = str(headers.pop(DEATH_REASON, "unknown"))
    frame = delivery.frame._replace(address="", headers=headers)
    return queue, reason, delivery._replace(queue=queue, frame=frame)

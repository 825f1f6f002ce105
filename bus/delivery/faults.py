"""Faults: giving a message up leaves a dead letter, and an event that tells of it."""

import hashlib

from bus import ambient
from bus.delivery.deadletters import bury
from bus.errors import InvalidMessage
from bus.fingerprint import reason_of
from bus.log import Logger
from bus.messages import Envelope, Fault
from bus.parts import Parts
from bus.transports.base import Delivery
from bus.write.unit_of_work import UnitOfWork

log = Logger("bus.faults")


class GiveUp:
    """Gives messages up. Doing so again for the same one changes nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(
        self, delivery: Delivery, error: BaseException, *, handler: str, attempts: int
    ) -> None:
        """Keeps the message as a dead letter and publishes a `Fault`; none for a fault itself.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        await bury(self._parts.read_store, delivery, error, handler=handler, attempts=attempts)
        if delivery.frame.name != Fault.wire_name:
            await self._tell(delivery, error, attempts)

    async def _tell(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        frame = delivery.frame
        seed = f"{delivery.queue}/{frame.id}"
        id = f"fault-{hashlib.blake2s(seed.encode(), digest_size=16).hexdigest()}"
        fault = Fault(
            message=frame.name,
            message_id=frame.id,
            subscription=delivery.queue,
            error=type(error).__name__,
            reason=reason_of(error),
            attempts=attempts,
        )
        envelope = Envelope(fault, frame.id, ambient.now(), frame.correlation_id or id)
        parts = self._parts
        work = UnitOfWork(id, parts.service, envelope, parts.event_log, parts.publisher)
        work.outbox.publish(fault)
        try:
            await work.commit()
        except InvalidMessage as problem:  # ids too long to travel on, say: the letter tells enough
            log.warning("no fault event", message_id=frame.id, reason=str(problem))

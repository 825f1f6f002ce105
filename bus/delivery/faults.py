"""Faults: giving a message up leaves a dead letter, and an event that tells of it."""

from bus import ambient
from bus.delivery.allowance import Allowance
from bus.delivery.deadletters import bury
from bus.errors import InvalidMessage, MessageError, Reject
from bus.fingerprint import reason_of
from bus.log import Logger
from bus.messages import Envelope, Fault, derived_id, former_derived_id
from bus.parts import Parts
from bus.transports.base import Delivery
from bus.write.unit_of_work import UnitOfWork

FAULTS = 100
"""So many messages of a queue that could not be read are told as faults, and as many more each
hour; each is a dead letter."""
HOUR = 3600.0

log = Logger("bus.faults")


class GiveUp:
    """Gives messages up. Doing so again for the same one changes nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._allowances: dict[str, Allowance] = {}
        self._untold = 0

    async def __call__(
        self, delivery: Delivery, error: BaseException, *, handler: str, attempts: int
    ) -> None:
        """Keeps the message as a dead letter and publishes a `Fault`; none for a fault itself.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        await bury(self._parts.read_store, delivery, error, handler=handler, attempts=attempts)
        if delivery.frame.name != Fault.wire_name and self._may_tell(delivery, error, attempts):
            await self._tell(delivery, error, attempts)

    def _may_tell(self, delivery: Delivery, error: BaseException, attempts: int) -> bool:
        """Anybody who may publish could fill the log with faults, by messages that nobody can
        read; so of those that failed before a handler had them, only some are told."""
        if attempts > 1 or not isinstance(error, MessageError) or isinstance(error, Reject):
            return True
        allowance = self._allowances.setdefault(delivery.queue, Allowance(FAULTS, HOUR))
        if allowance.take():
            return True
        self._untold += 1
        if self._untold in (1, 10, 100) or not self._untold % 1000:
            log.warning("no fault event: too many", queue=delivery.queue, untold=self._untold)
        return False

    async def _tell(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        frame = delivery.frame
        seed = f"{delivery.queue}/{frame.id}"
        if await self._is_told(f"fault-{former_derived_id(seed)}", frame.id):
            return
        id = derived_id(f"fault>{seed}")
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

    async def _is_told(self, former_id: str, message_id: str) -> bool:
        """Whether a process of a release before told of it."""
        commits = await self._parts.event_log.find(former_id)
        return bool(commits) and commits[0].causation_id == message_id

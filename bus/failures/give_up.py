"""Faults: giving a message up leaves a dead letter, and an event that tells of it."""

from typing import Any

from bus.assembly.runtime import Runtime
from bus.common import clock
from bus.common.fingerprint import reason_of
from bus.data import payload
from bus.data.ids import derived_id, former_derived_id
from bus.errors import InvalidMessage
from bus.failures.allowance import Allowance
from bus.failures.deadletters import bury, bury_the_rest, is_kept, place_of
from bus.messages import Envelope, Fault
from bus.observe.log import Logger
from bus.transports.base import Delivery, Frame
from bus.write.unit_of_work import UnitOfWork

UNREAD = 100
"""So many messages of a queue that cannot be read are kept as dead letters and told as faults, and
as many more each hour."""
HOUR = 3600.0
MOST_DATA = 256 * 1024
"""Bytes of a message that a fault, which stays in the log, holds at most."""

log = Logger("bus.faults")


class GiveUp:
    """Gives messages up. Doing so again for the same one changes nothing."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signals = runtime.signals
        self._allowances: dict[str, Allowance] = {}
        self._untold = 0

    async def __call__(
        self,
        delivery: Delivery,
        error: BaseException,
        *,
        handler: str,
        attempts: int,
        unread: bool = False,
    ) -> None:
        """Keeps the message as a dead letter and publishes a `Fault`; none for a fault itself.

        Of those that are `unread`, because nobody can read them, only so many: anybody who may
        publish could fill the database with them. One letter counts the rest.
        Raises: StoreUnavailable, OutcomeUnknown.
        """
        if (
            unread
            and not self.has_room(delivery)
            and not await is_kept(self._runtime.control, delivery)
        ):
            await bury_the_rest(self._runtime.control, delivery, error, count=1)
            self._count(delivery.queue)
            return
        letter = await bury(
            self._runtime.control,
            delivery,
            error,
            handler=handler,
            attempts=attempts,
            signals=self.signals,
        )
        if delivery.frame.name != Fault.wire_name and (
            unread or self._may_tell(delivery, attempts)
        ):
            await self._tell(delivery, error, attempts, letter)

    def has_room(self, delivery: Delivery) -> bool:
        """Whether one more message of its queue that cannot be read may be kept; takes it so."""
        return bool(self._allowance_of(delivery).take())

    def _may_tell(self, delivery: Delivery, attempts: int) -> bool:
        """Of what no handler had, only some are told: anybody who may publish could fill it."""
        if attempts or self.has_room(delivery):
            return True
        self._count(delivery.queue)
        return False

    def _allowance_of(self, delivery: Delivery) -> Allowance:
        return self._allowances.setdefault(delivery.queue, Allowance(UNREAD, HOUR))

    def _count(self, queue: str) -> None:
        self._untold += 1
        if self._untold in (1, 10, 100) or not self._untold % 1000:
            log.warning("unread_not_kept", queue=queue, count=self._untold)

    async def _tell(
        self, delivery: Delivery, error: BaseException, attempts: int, letter: str
    ) -> None:
        frame = delivery.frame
        seed = f"{delivery.queue}/{frame.id}"
        if await self._is_told(f"fault-{former_derived_id(seed)}", frame.id):
            return
        id = derived_id(f"fault>{seed}")
        stream, version = place_of(frame.headers)
        fault = Fault(
            message=frame.name,
            message_id=frame.id,
            subscription=delivery.queue,
            error=type(error).__name__,
            reason=reason_of(error),
            attempts=attempts,
            stream=stream,
            version=version,
            dead_letter=letter,
            **_data_of(frame),
        )
        envelope = Envelope(fault, frame.id, clock.now(), frame.correlation_id or id)
        runtime = self._runtime
        work = UnitOfWork(id, runtime.service, envelope, runtime.event_log, runtime.publisher)
        work.outbox.publish(fault)
        try:
            await work.commit()
        except InvalidMessage as problem:  # ids too long to travel on, say: the letter tells enough
            log.warning("fault_not_published", message_id=frame.id, reason=str(problem))

    async def _is_told(self, former_id: str, message_id: str) -> bool:
        """Whether a process of a release before told of it."""
        commits = await self._runtime.event_log.find(former_id)
        return bool(commits) and commits[0].causation_id == message_id


def _data_of(frame: Frame) -> dict[str, Any]:
    """The message's data as a fault can hold it, or why that leaves it out."""
    if len(frame.body) > MOST_DATA:
        return {"left_out": f"too large: {len(frame.body):,} bytes, over {MOST_DATA:,}"}
    try:
        data = payload.parsed(frame.body, frame.name[:100])
        payload.check({"data": data}, frame.name[:100])  # one level deeper than it came
    except InvalidMessage as error:
        return {"left_out": f"cannot be read: {error}"}
    if not isinstance(data, dict):
        return {"left_out": "cannot be read: no JSON object"}
    schema = frame.headers.get("schema", 1)
    return {"data": data, "data_schema": schema if isinstance(schema, int) else 1}

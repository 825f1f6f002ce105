"""Gives messages up: each leaves a dead letter and a `Fault`, an event about it."""

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
"""How many unreadable messages of a queue are kept as dead letters and published as faults, with as
many more each hour."""
HOUR = 3600.0
MOST_DATA = 256 * 1024
"""How many bytes of a message's data a fault may hold, which stays in the log."""

log = Logger("bus.faults")


class GiveUp:
    """Gives messages up. Idempotent."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signals = runtime.signals
        self._allowances: dict[str, Allowance] = {}
        self._not_kept = 0

    async def __call__(
        self,
        delivery: Delivery,
        error: BaseException,
        *,
        handler: str,
        attempts: int,
        unread: bool = False,
    ) -> None:
        """Keeps the message as a dead letter and publishes a `Fault`, but none about a fault.

        Of messages that nobody can read (`unread`) only so many are kept, and one letter counts the
        rest: anybody who may publish could fill the database with them.
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
            unread or self._may_publish(delivery, attempts)
        ):
            await self._publish(delivery, error, attempts, letter)

    def has_room(self, delivery: Delivery) -> bool:
        """Returns whether one more unreadable message of its queue may be kept; counts it if so."""
        return bool(self._allowance_of(delivery).take())

    def _may_publish(self, delivery: Delivery, attempts: int) -> bool:
        """Returns whether a fault may be published. Of messages that no handler had, only so many
        are: anybody who may publish could fill the log with them."""
        if attempts or self.has_room(delivery):
            return True
        self._count(delivery.queue)
        return False

    def _allowance_of(self, delivery: Delivery) -> Allowance:
        return self._allowances.setdefault(delivery.queue, Allowance(UNREAD, HOUR))

    def _count(self, queue: str) -> None:
        self._not_kept += 1
        if self._not_kept in (1, 10, 100) or not self._not_kept % 1000:
            log.warning("unread_not_kept", queue=queue, count=self._not_kept)

    async def _publish(
        self, delivery: Delivery, error: BaseException, attempts: int, letter: str
    ) -> None:
        frame = delivery.frame
        seed = f"{delivery.queue}/{frame.id}"
        if await self._is_published(f"fault-{former_derived_id(seed)}", frame.id):
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
        except InvalidMessage as problem:  # its ids are too long to travel, say
            log.warning("fault_not_published", message_id=frame.id, reason=str(problem))

    async def _is_published(self, former_id: str, message_id: str) -> bool:
        """Returns whether a process of the release before has published it, under a former id."""
        commits = await self._runtime.event_log.find(former_id)
        return bool(commits) and commits[0].causation_id == message_id


def _data_of(frame: Frame) -> dict[str, Any]:
    """Returns the message's data as a fault can hold it, or why the fault leaves it out."""
    if len(frame.body) > MOST_DATA:
        return {"left_out": f"too large: {len(frame.body):,} bytes, over {MOST_DATA:,}"}
    try:
        data = payload.parsed(frame.body, frame.name[:100])
        payload.check({"data": data}, frame.name[:100])  # a fault nests it one level deeper
    except InvalidMessage as error:
        return {"left_out": f"cannot be read: {error}"}
    if not isinstance(data, dict):
        return {"left_out": "cannot be read: not a JSON object"}
    schema = frame.headers.get("schema", 1)
    return {"data": data, "data_schema": schema if isinstance(schema, int) else 1}

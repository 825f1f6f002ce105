"""Trust: which of the service's own events, as they arrive, are what its log holds.

Anybody who may publish to the service's exchange could write a frame; only its processes sign one
(see `bus.signing`). An event without a valid signature (of an older release, an earlier epoch of
the log, or of somebody else) is only a doorbell: what is applied then is what the log holds under
its id. What the log does not hold is refused.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from bus.assembly.runtime import Runtime
from bus.codec import (
    ATTEMPT,
    DEAD_LETTER,
    RETURNED,
    WAITED,
    Registry,
    check_topic,
    event_frames,
    read_frame,
)
from bus.data.ids import category_of
from bus.errors import InvalidMessage, MessageError, UnknownMessage
from bus.failures.allowance import Allowance
from bus.failures.deadletters import bury, bury_the_rest
from bus.observe.log import Logger
from bus.observe.signals import Refused
from bus.signing import epoch_of
from bus.transports.base import Delivery, Frame

LETTERS = 100
"""So many refused messages of a queue are kept as dead letters, and as many more each hour."""
HOUR = 3600.0
TOLD_FOR = 600.0
"""Seconds that health tells of what was refused."""

log = Logger("bus.trust")


class NotInTheLog(MessageError):
    """An event that nobody vouches for: neither a signature nor the log of the service; nor did it
    come from the owner of its category."""


class Sorted(NamedTuple):
    """Deliveries to go on with, and those that are done with."""

    believed: Sequence[Delivery]
    refused: Sequence[Delivery] = ()


class Trust:
    """Sorts what arrives in a worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._service = runtime.service
        self._log = runtime.event_log
        self._control = runtime.control
        self._signing = runtime.signing
        self._signals = runtime.signals
        self._owners = runtime.foreign.owners
        self._always_looks = runtime.settings.check_events == "log"
        self._letters: dict[str, Allowance] = {}
        self._refused = 0
        self._refused_at: float | None = None
        self._last = ""
        self._looked_up = Counter[str]()

    async def sort(
        self,
        queue: str,
        deliveries: Sequence[Delivery],
        registry: Registry[Any],
        categories: Collection[str] | None = None,
    ) -> Sorted:
        """Tells the events that are to be believed from others, which are refused and kept as dead
        letters, a bounded number. With `categories`, only events of these belong to the queue.

        Raises: StoreUnavailable, OutcomeUnknown (doing it again is safe).
        """
        doubted = [one for one in deliveries if self._is_doubted(one, categories)]
        if not doubted:
            return Sorted(deliveries)
        await self._learn_epoch(doubted)
        held = await self._held(doubted, categories)
        self._count(queue, len(held))
        refused = [one for one in doubted if one.tag not in held]
        gone = {one.tag for one in refused}
        believed = [held.get(one.tag, one) for one in deliveries if one.tag not in gone]
        if refused:
            await self._refuse(queue, refused, registry)
        return Sorted(believed, refused)

    async def knows(self, frame: Frame) -> bool:
        """Whether the service's own processes vouch for an event: by signature, or by the log."""
        if self._signing.verify(frame):
            return True
        true = (await self._true_frames([frame])).get(frame.id)
        return true is not None and _tells(frame, true)

    def is_own(self, frame: Frame) -> bool:
        """Whether an event that is believed was written by this service, not by one it follows."""
        return not self._owners or _category(frame) not in self._owners

    async def problem(self) -> str | None:
        """What health is told for a while after messages were refused."""
        if self._refused_at is None or time.monotonic() - self._refused_at > TOLD_FOR:
            return None
        return (
            f"{self._refused} messages were refused, the last one {self._last}: neither are they "
            f"signed by this service nor does its log hold them, nor come they from the owner of "
            f"their category; who else may publish to {self._service}.events? (`bus deadletters "
            f"list` shows some of them)"
        )

    def _is_doubted(self, delivery: Delivery, categories: Collection[str] | None) -> bool:
        frame = delivery.frame
        category = _category(frame)
        if owner := self._owners.get(category):
            # What is tried again comes straight to its queue.
            return delivery.exchange not in ("", f"{owner}.events")
        if categories is not None and category not in categories:
            return True
        if frame.address == "events" and not frame.topic.startswith(f"{category}."):
            return True
        if self._always_looks and DEAD_LETTER not in frame.headers:  # such may be edited
            return True
        return not self._signing.verify(frame)

    async def _learn_epoch(self, doubted: Iterable[Delivery]) -> None:
        """Another process may have begun a new epoch: its events name it."""
        for one in doubted:
            await self._signing.learn(epoch_of(one.frame))

    async def _held(
        self, doubted: Sequence[Delivery], categories: Collection[str] | None
    ) -> dict[int, Delivery]:
        """The deliveries whose event the log holds, as it holds it, by their tags."""
        possible = {
            one.tag: one
            for one in doubted
            if not _by_wrong_topic(one.frame)
            and (categories is None or _category(one.frame) in categories)
        }
        true = await self._true_frames([one.frame for one in possible.values()])
        return {
            tag: one._replace(frame=_as_tried(true[one.frame.id], one.frame))
            for tag, one in possible.items()
            if one.frame.id in true and _tells(one.frame, true[one.frame.id])
        }

    async def _true_frames(self, frames: Iterable[Frame]) -> dict[str, Frame]:
        """The events of the log that frames tell of, by their ids."""
        ids = {_commit_of(frame) for frame in frames} - {""}
        commits = await self._log.commits(sorted(ids)) if ids else []
        return {
            frame.id: frame
            for commit in commits
            for frame in event_frames(commit, self._signing.sign)
        }

    def _count(self, queue: str, looked_up: int) -> None:
        """Tells how much is read twice: seldom, for while two releases run it is every event."""
        if self._always_looks or not looked_up:
            return
        before = self._looked_up[queue]
        self._looked_up[queue] += looked_up
        if not before or len(str(before)) < len(str(self._looked_up[queue])):
            log.info(
                "unsigned_looked_up",
                queue=queue,
                count=self._looked_up[queue],
            )

    async def _refuse(
        self, queue: str, refused: Sequence[Delivery], registry: Registry[Any]
    ) -> None:
        allowance = self._letters.setdefault(queue, Allowance(LETTERS, HOUR))
        kept = allowance.take(len(refused))
        for one in refused[:kept]:
            why = _why(one.frame, registry)
            await bury(self._control, one, why, handler=queue, attempts=1, signals=self._signals)
        last = refused[-1].frame
        if rest := refused[kept:]:  # those that are kept are told of one by one
            await bury_the_rest(
                self._control, rest[0]._replace(queue=queue), _not_in_the_log(), count=len(rest)
            )
            self._signals.emit(
                Refused,
                queue=queue,
                count=len(rest),
                message=last.name,
                message_id=last.id,
                stream=str(last.headers.get("stream", ""))[:200],
            )
        self._refused += len(refused)
        self._refused_at = time.monotonic()
        self._last = f"{last.name[:100]!r} in the queue {queue}"


def _category(frame: Frame) -> str:
    return category_of(str(frame.headers.get("stream", "")))


def _tells(frame: Frame, true: Frame) -> bool:
    """Whether a frame tells of that event of the log, be it in other words."""
    told, held = frame.headers, true.headers
    return (frame.name, told.get("stream"), told.get("version")) == (
        true.name,
        held["stream"],
        held["version"],
    )


_OF_DELIVERY = (ATTEMPT, DEAD_LETTER, RETURNED, WAITED)


def _as_tried(true: Frame, frame: Frame) -> Frame:
    """An event of the log in place of a frame, by the same way and with the same tries."""
    kept = {key: frame.headers[key] for key in _OF_DELIVERY if key in frame.headers}
    headers = {**true.headers, **kept}
    return true._replace(address=frame.address, topic=frame.topic, headers=headers)


def _commit_of(frame: Frame) -> str:
    """The id of the commit that an event's id derives from."""
    return frame.id.rpartition(":")[0]


def _by_wrong_topic(frame: Frame) -> bool:
    try:
        check_topic(frame)
    except InvalidMessage:
        return True
    return False


def _why(frame: Frame, registry: Registry[Any]) -> MessageError:
    """Why it is refused: it cannot be read, or its word is not enough."""
    try:
        with suppress(UnknownMessage):
            read_frame(frame, registry)
        check_topic(frame)
    except MessageError as error:
        return error
    return _not_in_the_log()


def _not_in_the_log() -> NotInTheLog:
    return NotInTheLog(
        "it is of a category of this service, but carries no signature of it, and the log does not "
        "hold it; or of one that is followed, but did not come by its owner's exchange"
    )

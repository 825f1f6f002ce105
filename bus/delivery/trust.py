"""Decides which of the service's own events, as they arrive, are what its log holds.

Anybody who may publish to the service's exchange could write a frame; only its processes sign one
(see `bus.signing`). An event without a valid signature (because an older release, an earlier epoch
of the log or somebody else sent it) only rings the bell: what is applied is what the log holds
under its id. If the log does not hold it, it is refused.
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
"""How many refused messages of a queue are kept as dead letters, with as many more each hour."""
HOUR = 3600.0
REPORTED_FOR = 600.0
"""For how many seconds health reports what was refused."""

log = Logger("bus.trust")


class NotInTheLog(MessageError):
    """Nobody vouches for an event: neither a signature nor the log of the service, and it did not
    come from the owner of its category."""


class Sorted(NamedTuple):
    """Deliveries to go on with, and those that were refused and are done with."""

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
        self._feeds = runtime.foreign.feeds
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
        """Sorts events into believed ones and others, which it refuses, keeping a bounded number as
        dead letters. With `categories`, only events of these belong to the queue.

        Raises: StoreUnavailable, OutcomeUnknown (doing it again is safe).
        """
        doubted = [delivery for delivery in deliveries if self._is_doubted(delivery, categories)]
        if not doubted:
            return Sorted(deliveries)
        await self._learn_epoch(doubted)
        held = await self._held(doubted, categories)
        self._count(queue, len(held))
        refused = [delivery for delivery in doubted if delivery.tag not in held]
        gone = {delivery.tag for delivery in refused}
        kept = (delivery for delivery in deliveries if delivery.tag not in gone)
        believed = [held.get(delivery.tag, delivery) for delivery in kept]
        if refused:
            await self._refuse(queue, refused, registry)
        return Sorted(believed, refused)

    async def knows(self, frame: Frame) -> bool:
        """Returns whether the service vouches for an event: by its signature, or by its log."""
        if self._signing.verify(frame):
            return True
        true = (await self._true_frames([frame])).get(frame.id)
        return true is not None and _is_same_event(frame, true)

    def is_own(self, frame: Frame) -> bool:
        """Returns whether this service wrote a believed event, rather than one that it follows."""
        return not self._owners or _category(frame) not in self._owners

    async def problem(self) -> str | None:
        """Returns what health reports for a while after messages were refused."""
        if self._refused_at is None or time.monotonic() - self._refused_at > REPORTED_FOR:
            return None
        return (
            f"{self._refused} messages were refused, the last one {self._last}: neither are they "
            f"signed by this service nor does its log hold them, nor do they come from the owner "
            f"of their category; who else may publish to {self._service}.events? (`bus deadletters "
            f"list` shows some of them)"
        )

    def _is_doubted(self, delivery: Delivery, categories: Collection[str] | None) -> bool:
        frame = delivery.frame
        category = _category(frame)
        if category in self._feeds:
            return delivery.exchange != "" and not self._signing.verify(frame)
        if owner := self._owners.get(category):
            # A message that is tried again comes straight to its queue, by no exchange ("").
            return delivery.exchange not in ("", f"{owner}.events")
        if categories is not None and category not in categories:
            return True
        if frame.address == "events" and not frame.topic.startswith(f"{category}."):
            return True
        if self._always_looks and DEAD_LETTER not in frame.headers:  # a retry may be edited
            return True
        return not self._signing.verify(frame)

    async def _learn_epoch(self, doubted: Iterable[Delivery]) -> None:
        """Learns the epochs that events name: another process may have begun a new one."""
        for delivery in doubted:
            await self._signing.learn(epoch_of(delivery.frame))

    async def _held(
        self, doubted: Sequence[Delivery], categories: Collection[str] | None
    ) -> dict[int, Delivery]:
        """Returns the deliveries whose events the log holds, as it holds them, by their tags."""
        possible = {
            delivery.tag: delivery
            for delivery in doubted
            if not _by_wrong_topic(delivery.frame)
            and (categories is None or _category(delivery.frame) in categories)
        }
        true = await self._true_frames([delivery.frame for delivery in possible.values()])
        return {
            tag: delivery._replace(frame=_as_tried(true[frame.id], frame))
            for tag, delivery in possible.items()
            if (frame := delivery.frame).id in true and _is_same_event(frame, true[frame.id])
        }

    async def _true_frames(self, frames: Iterable[Frame]) -> dict[str, Frame]:
        """Returns the log's events that frames stand for, by their ids."""
        ids = {_commit_of(frame) for frame in frames} - {""}
        commits = await self._log.commits(sorted(ids)) if ids else []
        return {
            frame.id: frame
            for commit in commits
            for frame in event_frames(commit, self._signing.sign)
        }

    def _count(self, queue: str, looked_up: int) -> None:
        """Logs how many events were looked up, at each power of ten: with two releases running, it
        is every event."""
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
        for delivery in refused[:kept]:
            why, signals = _why(delivery.frame, registry), self._signals
            await bury(self._control, delivery, why, handler=queue, attempts=1, signals=signals)
        last = refused[-1].frame
        if rest := refused[kept:]:  # of the others, `bury` has emitted a signal each
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


def _is_same_event(frame: Frame, true: Frame) -> bool:
    """Returns whether a frame stands for that event of the log, even if its data differ."""
    claimed, held = frame.headers, true.headers
    return (frame.name, claimed.get("stream"), claimed.get("version")) == (
        true.name,
        held["stream"],
        held["version"],
    )


_OF_DELIVERY = (ATTEMPT, DEAD_LETTER, RETURNED, WAITED)


def _as_tried(true: Frame, frame: Frame) -> Frame:
    """Returns an event of the log in place of a frame, with that one's route and tries."""
    kept = {key: frame.headers[key] for key in _OF_DELIVERY if key in frame.headers}
    headers = {**true.headers, **kept}
    return true._replace(address=frame.address, topic=frame.topic, headers=headers)


def _commit_of(frame: Frame) -> str:
    """Returns the id of the commit that an event's id derives from."""
    return frame.id.rpartition(":")[0]


def _by_wrong_topic(frame: Frame) -> bool:
    try:
        check_topic(frame)
    except InvalidMessage:
        return True
    return False


def _why(frame: Frame, registry: Registry[Any]) -> MessageError:
    """Returns why a frame is refused: it cannot be read, or nobody vouches for it."""
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

"""Lists what was given up, and repairs it.

Two things wait for people: dead letters (messages given up) and parked streams (which a projection
cannot apply). Only `discard` removes any here: after a successful retry, the consumer that handled
a letter (see `failures.deadletters`) or the projector that applied a stream does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json

from bus.assembly.runtime import OnOpenBus, Subscription, event_registry
from bus.codec import Registry, read_frame
from bus.common.figures import whole
from bus.data.limits import not_text
from bus.data.payload import Document
from bus.delivery.trust import Trust
from bus.errors import DeadLetterError, InvalidMessage, NewerMessage, Unroutable
from bus.failures.deadletters import frame_of
from bus.operate.deadletter_view import (
    DeadLetter,
    DeadLetterGroup,
    group_of,
    groups_of,
    letter_of,
    stream_of,
)
from bus.read.projection import Projection
from bus.signing import SIGNATURE
from bus.stores.collections import Target
from bus.stores.control import Control, Parked
from bus.transports.base import Frame, refusal
from bus.transports.topology import history_queue

AT_ONCE = 100
EVERY_REASON = 10_000

Report = Callable[[int, int], None]
Problems = Mapping[str, str | None]
Step = Callable[[Sequence[str]], Awaitable[Problems]]

NOT_THERE = (
    "there is no such dead letter (any more); `bus deadletters list` shows those that there are"
)
NOT_OURS = (
    "{!r} is not a queue of this service, and nothing is published to others': discard the letter"
)
LOG_STANDS = (
    "its data cannot be changed, because it is an event in the log; correct the code that reads it "
    "(the projection's handler, or the event's class or upcast), or record a correcting event, and "
    "retry it"
)
ANOTHERS = (
    "its data cannot be changed, because it is an event of another service, as that one sent it; "
    "have it sent as it should be from there (where it comes from a topic: `bus projections "
    "rebuild` of what fills that), whereupon the letter goes by itself, or discard the letter"
)
STREAM_STAYS = (
    "a parked stream cannot be dropped like a message: its documents would stay wrong for good; "
    "correct the projection's handler, or let it ignore the event, and retry"
)


class RepairResult(NamedTuple):
    """The ids that a repair succeeded for, and the reasons by id for the others."""

    done: tuple[str, ...]
    failed: Mapping[str, str]


class DeadLetters(OnOpenBus):
    """Lists and repairs what a service gave up.

        letters = DeadLetters(bus)
        for alike in await letters.groups():
            await letters.retry(group=alike.group)

    The bus must be open, or opened with `looking`. Raises: StoreUnavailable; ConfigurationError if
    the bus is not open.
    """

    @property
    def _control(self) -> Control:
        return self._runtime.control

    async def list(
        self,
        *,
        group: str = "",
        queue: str = "",
        message: str = "",
        limit: int = 100,
        skip: int = 0,
    ) -> list[DeadLetter]:
        """Returns those of one group, queue or message name (all by default), last seen first."""
        limit = whole(limit, "DeadLetters.list(): limit", least=0)
        skip = whole(skip, "DeadLetters.list(): skip", least=0)
        named = {"fingerprint": group, "queue": queue, "message": message}
        where = {field: value for field, value in named.items() if value}
        rows = await self._control.dead_letters(skip + limit, where=where)
        streams = [
            stream
            for stream in await self.streams()
            if group in ("", stream.group)
            and queue in ("", stream.queue)
            and message in ("", stream.message)
        ]
        found = sorted([*map(letter_of, rows), *streams], key=_last_seen, reverse=True)
        return found[skip : skip + limit]

    async def groups(self) -> Sequence[DeadLetterGroup]:
        """Returns groups of those that failed alike, last seen first."""
        groups = map(group_of, await self._control.dead_letter_groups())
        found = [*groups, *groups_of(await self.streams())]
        return sorted(found, key=_last_seen, reverse=True)

    async def streams(self) -> Sequence[DeadLetter]:
        """Returns all parked streams of the service's projections."""
        return [self._shown(*found) for found in (await self._parked()).values()]

    async def show(self, id: str) -> DeadLetter:
        """Returns one of them, with its body. Raises: DeadLetterError if there is no such one."""
        _check_id(id)
        if not _is_stream(id):
            return letter_of(await self._row(id))
        parked = await self._parked()
        if id not in parked:
            raise DeadLetterError(f"{id}: {NOT_THERE}")
        shown = self._shown(*parked[id])
        return shown._replace(body=await self._event_at(shown.stream, shown.version))

    async def retry(
        self,
        *ids: str,
        group: str = "",
        all: bool = False,
        rate: float | None = None,
        report: Report | None = None,
    ) -> RepairResult:
        """Sends those with these ids, of one group, or all back to the one handler that failed.

        Done means sent: a worker handles the message, and the letter disappears once that succeeds;
        if it fails again, the letter stays, with the new error. `rate` is the most per second;
        `report` is called with how many are finished, and of how many.

        Raises: DeadLetterError, StoreUnavailable.
        """
        if rate is not None and not _is_rate(rate):
            raise DeadLetterError(f"rate={rate!r}: give the retries per second, a number above 0")
        chosen = await self._chosen("retry", ids, group, all)
        return await _each(chosen, self._retry, rate, report)

    async def edit(self, id: str, data: Mapping[str, Any]) -> None:
        """Replaces a message's data, for its next retry.

        The data must fit the message's class in the schema that the message came with.

        Raises: DeadLetterError (it cannot be edited; says what to do instead), InvalidMessage
        (lists every problem of the data); then nothing is changed.
        """
        _check_id(id)
        if _is_stream(id):
            await self.show(id)  # raises if there is none
            raise DeadLetterError(f"{id}: {LOG_STANDS}")
        row = await self._row(id)
        if row["queue"] == history_queue(self._runtime.service).name:
            raise DeadLetterError(f"{id}: {ANOTHERS}")
        registry = self._registry_of(row)
        frame = frame_of({**row, "body": _json(data)})
        try:
            read_frame(frame, registry, reasons=EVERY_REASON)
        except NewerMessage as error:
            raise InvalidMessage(str(error)) from None
        if problem := refusal(frame):
            raise problem
        changes = {"body": frame.body, **await self._signed_anew(row, frame)}
        if not await self._control.change_dead_letter(id, changes):
            raise DeadLetterError(f"{id}: {NOT_THERE}")

    async def _signed_anew(self, row: Document, edited: Frame) -> Document:
        """Returns the headers of an edited event, signed only if the original was trusted: else
        editing would make a foreign event pass as the service's own."""
        if "stream" not in row["headers"] or not await Trust(self._runtime).knows(frame_of(row)):
            return {}
        return {"headers": {**row["headers"], SIGNATURE: self._runtime.signing.sign(edited)}}

    async def discard(
        self, *ids: str, group: str = "", all: bool = False, report: Report | None = None
    ) -> RepairResult:
        """Removes those with these ids, of one group, or all, for good; parked streams stay.

        Raises: DeadLetterError, StoreUnavailable, OutcomeUnknown.
        """
        chosen = await self._chosen("discard", ids, group, all)
        return await _each(chosen, self._discard, None, report)

    async def _chosen(self, doing: str, ids: Sequence[str], group: str, all: bool) -> Sequence[str]:
        """Returns the ids meant, oldest first, streams last. Raises: DeadLetterError."""
        if (bool(ids) + bool(group) + bool(all)) != 1:
            raise DeadLetterError("say which: give ids, or group=..., or all=True")
        for id in ids:
            if isinstance(id, Collection) and not isinstance(id, str | bytes):
                raise DeadLetterError(f"give the ids one by one, as in {doing}(*ids)")
            _check_id(id)
        if ids:
            return ids
        letters = await self._control.dead_letter_ids({"fingerprint": group} if group else {})
        streams = [s.id for s in await self.streams() if group in ("", s.group)]
        if group and not (letters or streams):
            raise DeadLetterError(
                f"group={group!r}: there is no such group (any more); `bus deadletters groups`, or "
                f"DeadLetters.groups(), shows those that there are"
            )
        return [*letters, *streams]

    async def _retry(self, ids: Sequence[str]) -> Problems:
        messages = [id for id in ids if not _is_stream(id)]
        streams = [id for id in ids if _is_stream(id)]
        return {**await self._send(messages), **await self._hurry(streams)}

    async def _send(self, ids: Sequence[str]) -> Problems:
        """Finds all before publishing any, so that they are published in their order."""
        rows = await asyncio.gather(*map(self._find, ids))
        problems = await asyncio.gather(*map(self._publish, rows))
        return dict(zip(ids, problems, strict=True))

    async def _publish(self, row: Document | None) -> str | None:
        if row is None:
            return NOT_THERE
        if not row["queue"].startswith(f"{self._runtime.service}."):
            return NOT_OURS.format(row["queue"])
        failures = await self._runtime.transport.publish([frame_of(row)], must_route=True)
        for failure in failures.values():
            if isinstance(failure, Unroutable):
                return (
                    f"the queue {row['queue']} is gone; start a worker with that subscription, "
                    f"which declares it, or discard the letter"
                )
            return f"{type(failure).__name__}: {failure}"
        return None

    async def _hurry(self, ids: Sequence[str]) -> Problems:
        """Makes parked streams due now; the sweeper of any worker then tries them."""
        there = await self._parked() if ids else {}
        for id in there.keys() & set(ids):
            target, parked = there[id]
            await self._control.park(target, parked._replace(next_try=self._control.now()))
        return {id: None if id in there else NOT_THERE for id in ids}

    async def _discard(self, ids: Sequence[str]) -> Problems:
        return dict(zip(ids, await asyncio.gather(*map(self._remove, ids)), strict=True))

    async def _remove(self, id: str) -> str | None:
        if _is_stream(id):
            return STREAM_STAYS
        return None if await self._control.remove_dead_letters([id]) else NOT_THERE

    async def _find(self, id: str) -> Document | None:
        found = await self._control.dead_letters(1, where={"_id": id})
        return found[0] if found else None

    async def _row(self, id: str) -> Document:
        found = await self._find(id)
        if found is None:
            raise DeadLetterError(f"{id}: {NOT_THERE}")
        return found

    async def _parked(self) -> dict[str, tuple[Target, Parked]]:
        """Returns all parked streams of the service's projections, by the ids that people see."""
        return {
            self._shown(target, parked).id: (target, parked)
            for target in await self._runtime.targets()
            for parked in await self._control.parked(target)
            if not parked.is_waiting
        }

    def _shown(self, target: Target, parked: Parked) -> DeadLetter:
        return stream_of(self._runtime.service, target.collection, parked)

    async def _event_at(self, stream: str, version: int) -> bytes:
        for commit in await self._runtime.read_log.read(stream, after=version - 1, limit=1):
            if commit.first <= version:
                return to_json(commit.events[version - commit.first].data)
        return b""

    def _registry_of(self, row: Document) -> Registry[Any]:
        """Returns the classes that the letter's subscription reads. Raises: DeadLetterError."""
        subscription = self._subscription_of(row["queue"])
        of = subscription.of
        if isinstance(of, Projection):
            raise DeadLetterError(f"{row['_id']}: {LOG_STANDS}")
        registry: Registry[Any] = event_registry(of) if of else self._runtime.commands
        if row["message"] not in registry:
            raise DeadLetterError(
                f"{row['_id']}: nobody in {subscription.name!r} handles {row['message']!r}, so its "
                f"data cannot be checked; register a handler of it, or discard the letter"
            )
        return registry

    def _subscription_of(self, queue: str) -> Subscription:
        for subscription in self._runtime.subscriptions:
            if any(declared.name == queue for declared in subscription.queues):
                return subscription
        raise DeadLetterError(
            f"no subscription of {self._runtime.service} has the queue {queue}; it was removed or "
            f"renamed: bring it back, or discard the letter"
        )


async def _each(
    ids: Sequence[str], step: Step, rate: float | None, report: Report | None
) -> RepairResult:
    """Runs `step` on the ids, `AT_ONCE` at a time, or one by one at a rate per second."""
    clock = asyncio.get_running_loop()
    started, size = clock.time(), AT_ONCE if rate is None else 1
    problems: dict[str, str | None] = {}
    for start in range(0, len(ids), size):
        if rate is not None:
            await asyncio.sleep(max(0.0, started + start / rate - clock.time()))
        some = ids[start : start + size]
        problems |= await step(some)
        if report:
            report(start + len(some), len(ids))
    failed = {id: problem for id, problem in problems.items() if problem is not None}
    return RepairResult(tuple(id for id in problems if id not in failed), failed)


def _json(data: Mapping[str, Any]) -> bytes:
    try:
        return to_json(data)
    except Exception as error:
        raise InvalidMessage(f"the data cannot be written as JSON: {error}") from error


def _is_rate(rate: object) -> bool:
    return isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0


def _check_id(id: object) -> None:
    if not isinstance(id, str):
        raise DeadLetterError(not_text("the id of a dead letter", id))


def _is_stream(id: str) -> bool:
    """Returns whether an id is a parked stream's.

    A message's id begins with its queue, `service.subscription`; a stream's with a projection's
    name, which has no dot.
    """
    return "." not in id.partition("/")[0]


def _last_seen(found: DeadLetter | DeadLetterGroup) -> Any:
    return found.last_seen

"""Republishing: what the log has published, sent once more to the queues of one subscription.

For what its queue lost: the broker came back empty, a queue was deleted, an exchange had no
bindings. Events keep their ids and headers, so that who handled one already can tell: handlers with
a `Session` by their marks, what handlers store and send by ids that derive from the event's,
projections by versions. Other effects happen again. Likewise the commands that units of work sent
(`to="commands"`): each is carried out once for its id.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from bus.assembly.runtime import Runtime, Subscription
from bus.codec import command_frames, event_frames
from bus.data.ids import category_of
from bus.errors import ConfigurationError, Unroutable
from bus.observe.log import Logger
from bus.stores.event_log import Commit
from bus.transports.base import Frame, refusal
from bus.transports.bindings import Exchange

AT_ONCE = 200
PAUSE = 0.01
"""Seconds between so many, which leaves the broker to others."""

Report = Callable[[datetime, int], None]

log = Logger("bus.republishing")


class Republished(NamedTuple):
    """How many events (or commands) went to a subscription; or would, where it was only tried.

    They are those from `since` up to `until`. `absent` names categories of other services that the
    subscription follows and whose events are not kept here.
    """

    subscription: str
    events: int
    since: datetime
    until: datetime
    absent: tuple[str, ...] = ()


class Republishing:
    """Sends events to one subscription once more. `report` is told the time that was reached, and
    how many events went: all up to that time are with the broker.

    Raises: ConfigurationError (there is no such subscription), StoreUnavailable, Unroutable (its
    queue is gone), TransportUnavailable; what was reported so far need not be sent again.
    """

    def __init__(self, runtime: Runtime, to: str, report: Report | None = None) -> None:
        self._runtime = runtime
        self._subscription = _subscription(runtime, to)
        self._report = report or (lambda time, events: None)
        self._routes = Routes(runtime, self._subscription)
        self._sends_commands = self._subscription.of is None
        self._waiting: list[Frame] = []
        self.events = 0

    async def run(
        self, since: datetime, until: datetime | None = None, *, dry_run: bool = False
    ) -> Republished:
        """Sends what was stored from `since` up to and with `until` (now), in the log's order."""
        since, until = _in_utc(since), _in_utc(until or self._runtime.event_log.now())
        followed = self._routes.foreign_categories
        kept = [one for one in followed if one in self._runtime.history.owners]
        reached = since
        async for commit in await self._commits(kept, since):
            if commit.time > until:
                break
            reached = commit.time
            await self._take(commit, dry_run)
        await self._flush(reached)
        absent = tuple(one for one in followed if one not in kept)
        return Republished(
            subscription=self._subscription.name,
            events=self.events,
            since=since,
            until=until,
            absent=absent,
        )

    async def _commits(self, kept: Sequence[str], since: datetime) -> AsyncIterator[Commit]:
        """What may go, by time."""
        event_log = self._runtime.event_log
        if self._sends_commands:
            return event_log.sending(since)
        owners = self._runtime.foreign.owners
        own = [one for one in await event_log.categories() if one not in owners]
        return self._runtime.read_log.scan([*own, *kept], since)

    async def _take(self, commit: Commit, dry_run: bool) -> None:
        frames = list(filter(_can_travel, self._routes.frames_of(commit)))
        self.events += len(frames)
        if not dry_run:
            self._waiting += frames
        if dry_run or len(self._waiting) >= AT_ONCE:
            await self._flush(commit.time)

    async def _flush(self, time: datetime) -> None:
        frames, self._waiting = self._waiting, []
        if frames:
            for failure in (
                await self._runtime.transport.publish(frames, must_route=True)
            ).values():
                raise _explained(failure, frames[0])
            await asyncio.sleep(PAUSE)
        self._report(time, self.events)


class Routes:
    """Which events of the log a subscription's queues are bound to, and how they get there."""

    def __init__(self, runtime: Runtime, subscription: Subscription) -> None:
        self._service = runtime.service
        self._sign = runtime.signing.sign
        self._commands = [q.name for q in subscription.queues if q.address == "commands"]
        self._owners = runtime.foreign.owners
        self._exchanges: dict[str, Exchange] = {}
        self.foreign_categories: list[str] = sorted(
            {
                topic.partition(".")[0]
                for queue in subscription.queues
                for binding in queue.foreign
                for topic in binding.topics
            }
        )
        for queue in subscription.queues:
            for service, topics in [(runtime.service, queue.topics), *queue.foreign]:
                exchange = self._exchanges.setdefault(service, Exchange())
                for topic in topics:
                    exchange.bind(tuple(topic.split(".")), queue.name)

    def frames_of(self, commit: Commit) -> list[Frame]:
        """A frame for each of the commit's events and each queue that is bound to it; of a
        subscription to commands, one for each that the commit sends."""
        if self._commands:
            return [_to(queue, one) for queue in self._commands for one in command_frames(commit)]
        owner = self._owners.get(category_of(commit.stream), self._service)
        exchange = self._exchanges.get(owner)
        if exchange is None:
            return []
        frames = event_frames(commit, self._sign if owner == self._service else None)
        return [_to(queue, one) for one in frames for queue in exchange.queues(one.topic)]


def _to(queue: str, frame: Frame) -> Frame:
    return frame._replace(address="queue", topic=queue)


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _can_travel(frame: Frame) -> bool:
    problem = refusal(frame)
    if problem:
        log.error("event_unsendable", message_id=frame.id, reason=str(problem))
    return problem is None


def _subscription(runtime: Runtime, name: str) -> Subscription:
    """The one of that name. Raises: ConfigurationError."""
    there = {one.name: one for one in runtime.subscriptions}
    if name not in there:
        raise ConfigurationError(
            f"service {runtime.service!r} has no subscription named {name!r}; "
            f"it has {', '.join(there) or 'none'} (commands, its projections, and the routers "
            f"that handle events)"
        )
    return there[name]


def _explained(failure: Exception, frame: Frame) -> Exception:
    if not isinstance(failure, Unroutable):
        return failure
    return Unroutable(
        f"the queue {frame.topic} is gone; start a worker with that subscription, which declares "
        f"it, then send again"
    )

"""Sends what the log has published once more, to the queues of one subscription.

It replaces what a queue lost: the broker came back empty, a queue was deleted, an exchange had no
bindings. Events keep their ids and headers, so that what was handled already is recognised: by the
marks of handlers with a `Session`, by the ids of what handlers store and send, which derive from
the event's, and by the versions of projections. Other effects happen again. The same goes for
commands that units of work sent (`to="commands"`): each is carried out once for its id.
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
"""Seconds between so many, to leave the broker free for others."""

Report = Callable[[datetime, int], None]

log = Logger("bus.republishing")


class Republished(NamedTuple):
    """How many events (or commands) were sent to a subscription, or would be in a dry run.

    They are those from `since` up to `until`. `absent` names categories of other services that the
    subscription follows and whose events are not stored here.
    """

    subscription: str
    events: int
    since: datetime
    until: datetime
    absent: tuple[str, ...] = ()


class Republishing:
    """Sends events to one subscription once more. `report` is called with the time that was reached
    and the number of events sent: the broker has all those up to that time.

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
        """Sends what was stored from `since` up to and including `until` (default: now), in the
        log's order, after what other services published late; with `dry_run`, only counts it."""
        since, until = _in_utc(since), _in_utc(until or self._runtime.event_log.now())
        followed = self._routes.foreign_categories
        kept = [category for category in followed if category in self._runtime.history.owners]
        reached = since
        async for commit in self._late(kept, since, until):
            await self._take(commit, reached, dry_run)
        async for commit in await self._commits(kept, since):
            if commit.time > until:
                break
            reached = commit.time
            await self._take(commit, reached, dry_run)
        await self._flush(reached)
        absent = tuple(category for category in followed if category not in kept)
        return Republished(
            subscription=self._subscription.name,
            events=self.events,
            since=since,
            until=until,
            absent=absent,
        )

    async def _commits(self, kept: Sequence[str], since: datetime) -> AsyncIterator[Commit]:
        """Returns the commits to send from, in the order of their times."""
        event_log = self._runtime.event_log
        if self._sends_commands:
            return event_log.sending(since)
        owners = self._runtime.foreign.owners
        own = [category for category in await event_log.categories() if category not in owners]
        return self._runtime.read_log.scan([*own, *kept], since)

    async def _late(
        self, kept: Sequence[str], since: datetime, until: datetime
    ) -> AsyncIterator[Commit]:
        """Yields what came from other services in that time and happened before or after it: it was
        published late, or by another clock. Not what is history, which no handler hears."""
        if self._sends_commands or not kept:
            return
        history = self._runtime.history
        heard = {category: await history.heard_since(category) for category in kept}
        async for commit in self._runtime.read_log.arrived(kept, since, until):
            if not since <= commit.time <= until and commit.time >= heard[commit.category]:
                yield commit

    async def _take(self, commit: Commit, reached: datetime, dry_run: bool) -> None:
        frames = list(filter(_can_travel, self._routes.frames_of(commit)))
        self.events += len(frames)
        if not dry_run:
            self._waiting += frames
        if dry_run or len(self._waiting) >= AT_ONCE:
            await self._flush(reached)

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
        self._exchanges_of = runtime.foreign.exchanges
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
        """Returns a frame for each of the commit's events and each queue bound to it; for a
        subscription to commands, one for each command that the commit sends."""
        if self._commands:
            commands = command_frames(commit)
            return [_to(queue, command) for queue in self._commands for command in commands]
        category = category_of(commit.stream)
        exchange = self._exchanges.get(self._exchanges_of.get(category, self._service))
        if exchange is None:
            return []
        frames = event_frames(commit, None if category in self._owners else self._sign)
        return [_to(queue, frame) for frame in frames for queue in exchange.queues(frame.topic)]


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
    """Returns the subscription of that name. Raises: ConfigurationError if there is none."""
    there = {subscription.name: subscription for subscription in runtime.subscriptions}
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

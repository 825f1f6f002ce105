"""Refills queues from the log that were lost with messages that handlers had not seen yet.

Only a queue knows what handlers have yet to do. The process that finds one gone and makes it again
notes that in the database; a worker then sends again what was published since the queue was last
seen empty. What was handled in between comes again, with the same ids.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from bus.assembly.runtime import Runtime, Subscription
from bus.common import clock
from bus.common.tasks import end
from bus.data.payload import Document
from bus.declare.policies import AHEAD
from bus.declare.router import Router
from bus.lifecycle.duty import Duty
from bus.observe.health import Check
from bus.observe.log import Logger
from bus.read.projection import Projection
from bus.recovery.republishing import Republishing
from bus.stores.control import change_note
from bus.transports.topology import DELAYS

NOTE_EVERY = 1.0
LOOK_EVERY = 5.0
MARK_EVERY = 30.0
"""Seconds, enough for a loss to be noted before its queue, empty again, counts as quiet."""
IN_HAND = timedelta(minutes=5)
"""What was delivered longer ago than this is assumed to be settled, unless its handlers may take
longer for all that a worker takes ahead."""
AT_MOST = timedelta(hours=1)
"""How far back events are sent again unasked: beyond that they could be too many at once."""
LEASE = 15.0
"""Seconds for which a worker that was killed may hold up the next one."""
REMEMBERED = 600.0

log = Logger("bus.losses")


class Losses:
    """What is known about the queues of handlers and commands, in one note of the service.

    For each subscription: `quiet`, a time up to which all that was published is settled. If its
    queue was made again since, also `lost` and `latest`, when that was first and last seen: what
    was sent again in between is lost once more.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._key = f"subscriptions/{runtime.service}"
        self._unnoted: set[str] = set()
        self._began = time.monotonic()
        self._is_opening = True
        self._names = {
            queue.name: subscription.name
            for subscription in runtime.declared
            if not isinstance(subscription.of, Projection)
            for queue in subscription.queues
        }

    @property
    def queues(self) -> Mapping[str, str]:
        """The subscriptions of the queues that are looked after, by queue."""
        return self._names

    async def run(self) -> None:
        """Notes which queues this process had to make, until cancelled."""
        while True:
            await self._runtime.loops.turn("losses", self.note_anew, None)
            await asyncio.sleep(clock.jittered(NOTE_EVERY))

    async def read(self) -> Document:
        """Returns what is known, by subscription. Raises: StoreUnavailable."""
        return (await self._runtime.control.note(self._key)).value

    async def note_anew(self) -> None:
        """Notes which queues this process had to make. Raises: StoreUnavailable, OutcomeUnknown."""
        made = self._runtime.transport.made_anew()
        self._unnoted |= {self._names[queue] for queue in made if queue in self._names}
        if self._unnoted:
            await self._note(frozenset(self._unnoted))
        self._is_opening = False

    async def _note(self, names: Collection[str]) -> None:
        now = self._runtime.event_log.now()
        text = now.isoformat()
        began = now - timedelta(seconds=time.monotonic() - self._began)

        def noted(known: Document) -> Document:
            # A queue that no note knows is new: it has missed nothing. So has one that was noted
            # since this process began to open: processes that open at once all find it missing,
            # and without that they would take a new queue for a lost one.
            new = {name: {"quiet": text} for name in names if name not in known}
            lost = {
                name: {"lost": text, **known[name], "latest": text}
                for name in known.keys() & names
                if not (self._is_opening and datetime.fromisoformat(known[name]["quiet"]) >= began)
            }
            return {**known, **lost, **new}

        await change_note(self._runtime.control, self._key, noted)
        self._unnoted.difference_update(names)

    async def note_restored(self) -> None:
        """Notes that what handlers did lately may be gone, because a backup of the database was
        restored, and is in no queue any more: all since the queues were quiet, as noted there."""
        now = self._runtime.event_log.now()

        def noted(known: Document) -> Document:
            names = self._names.values()
            return {**known, **{name: _lost_since(known.get(name, {}), now) for name in names}}

        await change_note(self._runtime.control, self._key, noted)

    async def rename(self, old: str, new: str) -> None:
        """Notes that a subscription has another name, and has settled no more than it had."""

        def renamed(known: Document) -> Document:
            if old not in known:
                return known
            before, entry = dict(known[old]), dict(known.get(new) or known[old])
            entry = {**before, **entry, "quiet": min(before["quiet"], entry["quiet"])}
            return {**{name: of for name, of in known.items() if name != old}, new: entry}

        await change_note(self._runtime.control, self._key, renamed)

    async def mark_quiet(self, settled: Mapping[str, datetime]) -> None:
        """Notes up to when all published is settled, by subscription, unless something was lost
        meanwhile."""

        def marked(known: Document) -> Document:
            return {
                **known,
                **{
                    name: {"quiet": max(until.isoformat(), known.get(name, {}).get("quiet", ""))}
                    for name, until in settled.items()
                    if "lost" not in known.get(name, {})
                },
            }

        await change_note(self._runtime.control, self._key, marked)

    async def settle(self, name: str, latest: str) -> None:
        """Notes that what was lost was sent again, unless it was lost once more after that time."""

        def settled(known: Document) -> Document:
            entry = known.get(name, {})
            return (
                {**known, name: {"quiet": entry["quiet"]}} if _latest_of(entry) == latest else known
            )

        await change_note(self._runtime.control, self._key, settled)


def _lost_since(entry: Document, now: datetime) -> Document:
    """Returns an entry with a loss, dated so that all since `quiet` is recent enough to be sent."""
    quiet = datetime.fromisoformat(entry.get("quiet") or (now - AT_MOST).isoformat())
    lost = min(now, quiet + AT_MOST).isoformat()
    return {"quiet": quiet.isoformat(), "lost": lost, "latest": now.isoformat()}


def _latest_of(entry: Document) -> str:
    """Returns when it was lost last, or "". (The release before noted only the first time.)"""
    return str(entry.get("latest") or entry.get("lost", ""))


class Sent(NamedTuple):
    """How far sending again has come, for the loss seen at `latest`: all up to `reached`."""

    latest: str
    reached: datetime
    events: int


class Resending:
    """Marks queues that are quiet and refills those that were lost, in a worker."""

    def __init__(self, runtime: Runtime, losses: Losses, names: Collection[str]) -> None:
        self._runtime = runtime
        self._losses = losses
        self._queues = {name: queue for queue, name in losses.queues.items() if name in names}
        limits = time_limits(runtime)
        self._in_hand = {name: in_hand(limits.get(q, 0.0)) for name, q in self._queues.items()}
        self._owner = clock.new_id()
        self._mark_at = 0.0
        self._quiet: dict[str, datetime] = {}
        self._sent: dict[str, Sent] = {}
        self._reports: dict[str, tuple[str, float]] = {}

    @property
    def check(self) -> Check:
        return Check("lost queues", self._lately_refilled)

    @property
    def duty(self) -> Duty:
        return Duty("lost queues", self.run, checks=[self.check])

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(clock.jittered(LOOK_EVERY))
            await self._runtime.loops.turn("lost queues", self.look, None)

    async def look(self) -> None:
        """Looks once. Raises: Unavailable, OutcomeUnknown, Unroutable; the next look goes on."""
        known = await self._losses.read()
        for name in self._queues:
            if "lost" in known.get(name, {}):
                await self._resend(name, known[name])
        if time.monotonic() >= self._mark_at and self._runtime.transport.healthy:
            self._mark_at = time.monotonic() + clock.jittered(MARK_EVERY)
            await self.mark()

    async def _resend(self, name: str, entry: Document) -> None:
        lease = f"{self._runtime.service}.{name}.resending"
        if not await self._runtime.control.lease(lease, self._owner, LEASE):
            return
        latest, quiet = _latest_of(entry), datetime.fromisoformat(entry["quiet"])
        since = max(quiet, datetime.fromisoformat(entry["lost"]) - AT_MOST)
        renewing = self._runtime.loops.start(partial(self._renew, lease), lease)
        try:
            events = await self._send(name, since, latest)
            await self._losses.settle(name, latest)
        finally:
            await end([renewing])
        self._report(name, since, events, quiet)

    async def _send(self, name: str, since: datetime, latest: str) -> int:
        """Sends again, from where it was cut off unless more was lost; returns how many went."""
        before = self._sent.get(name)
        if before is None or before.latest != latest:
            before = Sent(latest, since, 0)

        def report(time: datetime, events: int) -> None:
            self._sent[name] = Sent(latest, time, before.events + events)

        await Republishing(self._runtime, name, report).run(before.reached)
        return self._sent.pop(name).events

    async def _renew(self, lease: str) -> None:
        """Keeps the lease: sending may take longer than it lasts, and nobody else must send too."""
        while True:
            await asyncio.sleep(LEASE / 4)
            await self._runtime.control.lease(lease, self._owner, LEASE)

    def _report(self, name: str, since: datetime, events: int, quiet: datetime) -> None:
        text = (
            f"the queue of {name} was lost, with what was in it, or a backup restored; what was "
            f"published since {since.isoformat()} was sent again from the log: {events}"
        )
        if since > quiet:
            text += (
                f". What is older may be missing: see `bus events republish --to {name} --since "
                f"{quiet.isoformat()} --until {since.isoformat()}`"
            )
        log.error("queue_refilled", subscription=name, what=text)
        self._reports[name] = text, time.monotonic()

    async def mark(self) -> None:
        """Marks queues that are empty and were so the last time, up to what was settled then."""
        empty = {
            name: settled
            for name, settled in (await self._settled()).items()
            if not await self._runtime.transport.depth(self._queues[name])
        }
        # Twice, because an empty queue may have just been lost: by then, that is noted.
        before = {name: self._quiet[name] for name in empty if name in self._quiet}
        self._quiet = empty
        if before:
            await self._losses.mark_quiet(before)

    async def _settled(self) -> dict[str, datetime]:
        """Returns up to when everything is settled that is in no queue, by subscription; nothing if
        messages wait on the delay ladder, because nobody knows which queues they will go to."""
        for delay in DELAYS:
            if await self._runtime.transport.depth(f"{self._runtime.service}.delay.{delay}s"):
                return {}
        settled = await self._runtime.event_log.settled()
        pending = await self._runtime.event_log.pending(self._runtime.event_log.now(), 1)
        waiting = [commit.time for commit in pending]
        return {name: min([settled - taken, *waiting]) for name, taken in self._in_hand.items()}

    async def _lately_refilled(self) -> str | None:
        now = time.monotonic()
        recent = {n: (text, at) for n, (text, at) in self._reports.items() if now - at < REMEMBERED}
        self._reports = recent
        return "; ".join(text for text, _ in recent.values()) or None


def in_hand(time_limit: float) -> timedelta:
    """Returns how long a message may be held until it is handled, if handlers take as long as they
    may for each one before it; at most so long that what was settled before can be sent again."""
    longest = (AT_MOST - IN_HAND).total_seconds()
    return max(IN_HAND, timedelta(seconds=min(longest, AHEAD * time_limit)))


def time_limits(runtime: Runtime) -> dict[str, float]:
    """Returns how long a handler may take for one message, in seconds, by queue."""
    return {
        queue.name: limit
        for subscription in runtime.subscriptions
        for queue in subscription.queues
        if (limit := _limit(runtime, subscription)) > 0
    }


def _limit(runtime: Runtime, subscription: Subscription) -> float:
    """Returns the longest limit of those who handle its messages; 0 for those of projections."""
    of = subscription.of
    if isinstance(of, Router):
        return of.time_limit
    if isinstance(of, Projection):
        return 0.0
    handling = (router for router in runtime.routers.values() if _takes_commands(router))
    return max((router.time_limit for router in handling), default=0.0)


def _takes_commands(router: Router) -> bool:
    return any(handler.kind == "command" for handler in router.handlers)

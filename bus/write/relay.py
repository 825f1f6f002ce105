"""Relay: publishes commits that are stored but not yet confirmed by the broker.

The event log is the outbox (Richardson's transactional outbox): after a crash between storing and
publishing, or an outage of the broker, the pending marks show what is missing.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from bus.codec import frames_of
from bus.common import clock
from bus.errors import BusError, InvalidMessage
from bus.lifecycle.duty import Duty
from bus.observe.log import Logger
from bus.observe.loops import Loops
from bus.observe.signals import Relayed
from bus.observe.tracer import Batch, context_of
from bus.stores.event_log import Commit, EventLog
from bus.transports.base import Frame
from bus.write.publisher import Publisher

BATCH = 500
GRACE = timedelta(seconds=2)
LEASE = 10.0
LOOK_AHEAD_EVERY = 5.0
HAND_OVER_WITHIN = 1.0

log = Logger("bus.relay")


class Leases(Protocol):
    """Decides which process may relay."""

    async def lease(self, name: str, owner: str, seconds: float) -> bool: ...


class Relay:
    """Polls for pending commits. Any number may run: a lease lets one work, others stand by."""

    def __init__(
        self,
        event_log: EventLog,
        publisher: Publisher,
        leases: Leases,
        *,
        poll: float = 0.5,
        loops: Loops | None = None,
    ) -> None:
        self._log = event_log
        self._publisher = publisher
        self._leases = leases
        self._poll = poll
        self._loops = loops or Loops()
        self._owner = clock.new_id()
        self._renew_at = 0.0
        self._look_ahead_at = 0.0
        self._since: datetime | None = None
        self._unpublishable: set[str] = set()

    @property
    def duty(self) -> Duty:
        return Duty("relay", self.run)

    async def run(self) -> None:
        """Relays until cancelled, then hands over to others at once; outages only delay it."""
        try:
            while True:
                if not await self._loops.turn("relay", self.relay_once, otherwise=False):
                    await asyncio.sleep(clock.jittered(self._poll))
        finally:
            await self._hand_over()

    async def relay_once(self) -> bool:
        """Publishes one batch of pending commits; returns False if none was published."""
        if not await self._leads():
            self._publisher.stand_by()
            return False
        commits = await self._waiting() or await self._ahead()
        if not commits:
            return False
        framed = [(c, frames) for c in commits if (frames := self._frames_of(c)) is not None]
        began, since = time.monotonic(), time.time()
        sent = await self._publisher.publish([c for c, _ in framed], [f for _, f in framed])
        seconds = time.monotonic() - began
        waiting = len(commits) - sent
        signals = self._publisher.signals
        more = len(commits) == BATCH
        signals.emit(Relayed, sent, waiting=waiting, seconds=seconds, more=more)
        if sent:
            contexts = [found for commit in commits if (found := context_of(commit.headers))]
            signals.batch(Batch("relay", signals.service, since, contexts=contexts, messages=sent))
        self._since = _beyond(commits, self._since) if not sent and len(commits) == BATCH else None
        return sent > 0

    async def _waiting(self) -> list[Commit]:
        """Returns pending commits; after a full batch that could not be sent, those behind it."""
        before, since = self._log.now() - GRACE, self._since
        commits = await self._log.pending(before, BATCH, since)
        return commits if commits or since is None else await self._log.pending(before, BATCH)

    async def _ahead(self) -> list[Commit]:
        """Returns commits dated ahead of this clock, every `LOOK_AHEAD_EVERY` seconds."""
        if time.monotonic() < self._look_ahead_at:
            return []
        self._look_ahead_at = time.monotonic() + LOOK_AHEAD_EVERY
        waiting = await self._log.pending(datetime.max.replace(tzinfo=UTC), BATCH)
        return [commit for commit in waiting if commit.time > self._log.now() + GRACE]

    def _frames_of(self, commit: Commit) -> list[Frame] | None:
        """Returns a commit's frames; None if they cannot be published, which must not block others
        and is logged once."""
        try:
            return frames_of(commit)
        except InvalidMessage as error:
            if commit.id not in self._unpublishable:
                log.error("commit_unpublishable", commit=commit.id, reason=str(error))
            self._unpublishable.add(commit.id)
            return None

    async def _hand_over(self) -> None:
        if time.monotonic() < self._renew_at + LEASE / 2:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(HAND_OVER_WITHIN):
                    await self._leases.lease("relay", self._owner, 0)

    async def _leads(self) -> bool:
        if time.monotonic() < self._renew_at:
            return True
        if not await self._leases.lease("relay", self._owner, LEASE):
            return False
        self._renew_at = time.monotonic() + LEASE / 2
        return True


def _beyond(commits: list[Commit], since: datetime | None) -> datetime:
    """Returns a time that skips these commits, except those of the last one's millisecond.

    If the whole batch is of that millisecond, it moves on by one; else it would stay there forever.
    """
    last = commits[-1].time
    return last + timedelta(milliseconds=1) if last == since else last

"""Publisher: sends stored commits to the broker and clears their pending marks.

It never fails and never blocks a command. What it cannot send stays pending in the log, for the
relay.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Literal

from bus.codec import sign_events
from bus.common import clock
from bus.common.tasks import end, own_context
from bus.errors import BusError, TransportUnavailable
from bus.observe.listeners import Signals
from bus.observe.log import Logger
from bus.observe.signals import Published
from bus.signing import Sign
from bus.stores.event_log import Commit, EventLog
from bus.transports.base import Frame, Transport

MOST_HELD = 10_000
MARK_EVERY = 0.05
"""Seconds, about. Nobody waits for a mark to be cleared: the relay ignores those younger than two
seconds. With 64 commands at a time, clearing marks per group took 9 % of all CPU, servers included.
"""

log = Logger("bus.publisher")


Source = Literal["offer", "relay"]
"""Where a batch comes from: it was just stored, or the relay tries it again."""


class Publisher:
    """Publishes the commits of one loop tick together; many batches may be in flight at once."""

    def __init__(
        self,
        event_log: EventLog,
        transport: Transport,
        sign: Sign | None = None,
        signals: Signals | None = None,
        taken: Mapping[str, str] | None = None,
    ) -> None:
        """`sign`, if given, signs the events; `taken` says whose the categories are that no event
        may name."""
        self.signals = signals or Signals()
        self.taken = taken or {}
        self._sign = sign
        self._log = event_log
        self._transport = transport
        self._waiting: list[tuple[Commit, list[Frame]]] = []
        self._confirmed: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._marking: asyncio.Task[None] | None = None
        self._held = 0
        self._unsent = 0
        self._failing: dict[Source, bool] = {}
        """What fails at present, and whether because the broker is away."""
        self._open = False

    def start(self) -> None:
        """Starts to publish what is offered; the topology must be declared before."""
        self._open = True

    def offer(self, commits: Sequence[Commit], frames: Sequence[list[Frame]]) -> None:
        """Takes stored commits with their frames, unless closed or holding `MOST_HELD`."""
        if not self._open or self._held >= MOST_HELD:
            return
        if not self._waiting:
            # In a new context, as by `tasks.apart`: one caller's PyMongo deadline is not for
            # all that offer something in this tick.
            context = own_context(Context())
            asyncio.get_running_loop().call_soon(self._send, context=context)
        self._held += len(commits)
        self._waiting += zip(commits, frames, strict=True)

    async def publish(self, commits: Sequence[Commit], frames: Sequence[list[Frame]]) -> int:
        """Publishes commits and clears their marks; returns how many were confirmed.

        Before `start` it publishes none, because the broker confirms events that no queue takes
        yet: these would be lost.
        """
        if not self._open:
            return 0
        if not commits:  # an empty batch says nothing about the broker
            return 0
        confirmed = await self._publish(list(zip(commits, frames, strict=True)), "relay")
        if confirmed:
            await self._log.confirmed(confirmed)
        return len(confirmed)

    def stand_by(self) -> None:
        """Forgets what the relay failed at, as another process relays."""
        self._failing.pop("relay", None)

    async def close(self, timeout: float = 10.0) -> None:
        """Waits at most `timeout` seconds for what was offered."""
        self._send()
        self._open = False
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            while tasks := {*self._tasks, *self._marks()}:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                await asyncio.wait(tasks, timeout=left)
        finally:  # also where it is cancelled itself
            await end(self._tasks)
            await end(self._marks())

    def _marks(self) -> list[asyncio.Task[None]]:
        return [self._marking] if self._marking else []

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            task = asyncio.create_task(self._publish_and_mark(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish_and_mark(self, batch: list[tuple[Commit, list[Frame]]]) -> None:
        try:
            confirmed = await self._publish(batch, "offer")
        finally:
            self._held -= len(batch)
        self._confirmed += confirmed  # `+= await ...` would extend the list from before the await
        if self._confirmed and self._marking is None:
            self._marking = asyncio.create_task(self._mark())

    async def _publish(self, batch: list[tuple[Commit, list[Frame]]], source: Source) -> list[str]:
        """Publishes; returns the ids of the commits whose frames were all confirmed."""
        frames = [f for _, frames in batch for f in frames]
        began, since = time.monotonic(), time.time()
        failures = await self._send_frames(frames)
        if Published in self.signals.wanted:
            seconds, size = time.monotonic() - began, sum(len(frame.body) for frame in frames)
            self.signals.emit(Published, len(frames), len(failures), size, seconds)
        if self.signals.tracer is not None:
            self._trace(frames, failures, since, late=source == "relay")
        self._report(failures, source)
        if not failures:
            return [commit.id for commit, _ in batch]
        return [c.id for c, frames in batch if not any(f.id in failures for f in frames)]

    def _trace(
        self, frames: list[Frame], failures: dict[str, Exception], since: float, *, late: bool
    ) -> None:
        for address in ("events", "commands"):
            sent = [frame for frame in frames if frame.address == address]
            failed = next((failures[frame.id] for frame in sent if frame.id in failures), None)
            error = "" if failed is None else type(failed).__name__
            exchange = f"{self.signals.service}.{address}"
            self.signals.batch_of("send", exchange, since, sent, error, late=late)

    async def _send_frames(self, frames: list[Frame]) -> dict[str, Exception]:
        """Sends frames; returns the failures by frame id.

        Events may have no subscriber, but a command must reach its queue.
        """
        events = [frame for frame in frames if frame.address == "events"]
        commands = [frame for frame in frames if frame.address == "commands"]
        if self._sign:
            sign_events(events, self._sign)
        try:
            failures = await self._transport.publish(events, checked=True) if events else {}
            if commands:
                failures |= await self._transport.publish(commands, must_route=True, checked=True)
        except BusError as error:
            return {frame.id: error for frame in frames}
        return failures

    async def _mark(self) -> None:
        """Clears the marks of all commits confirmed meanwhile, together."""
        try:
            while self._confirmed:
                if self._open:
                    await asyncio.sleep(clock.jittered(MARK_EVERY))
                ids, self._confirmed = self._confirmed, []
                await self._log.confirmed(ids)
        except BusError as error:
            log.warning("marks_not_cleared", reason=str(error))
        finally:
            self._marking = None

    def _report(self, failures: dict[str, Exception], source: Source) -> None:
        """Logs once that messages are not published, and once that they are again.

        A message that the broker refuses each time, so that the relay goes on failing, hides no
        outage, and what is published meanwhile is no news.
        """
        if failures:
            reason = next(iter(failures.values()))
            if source not in self._failing and not any(self._failing.values()):
                _log_failure(reason)
            self._failing[source] = isinstance(reason, TransportUnavailable)
            self._unsent += len(failures) if source == "offer" else 0
            return
        over = [self._failing.pop(each, None) for each in {"offer", source}]
        if over != [None] * len(over) and not any(self._failing.values()):
            log.info("publishing_again", were_left_to_the_relay=self._unsent)
            self._unsent = 0


def _log_failure(reason: Exception) -> None:
    if isinstance(reason, TransportUnavailable):
        log.warning("not_published", reason=str(reason))
    else:
        log.error("not_published", reason=str(reason))

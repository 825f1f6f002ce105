"""Receives other services' history from its owners, and notes how far it reaches."""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from bus.assembly.runtime import Runtime
from bus.delivery.consumer import BatchConsumer
from bus.delivery.foreign_events import Arrived, ForeignEvents
from bus.errors import InvalidMessage, TransportUnavailable, Unroutable
from bus.failures.deadletters import repaired
from bus.failures.give_up import GiveUp
from bus.following.monitor import ASK_AGAIN, Turns
from bus.following.protocol import Asking, TellHeads, TellPart, Word, kinds_of, word_in
from bus.observe.health import Check
from bus.observe.log import Logger
from bus.read.foreign import Progress
from bus.stores.event_log import FollowedLog
from bus.transports.base import Delivery
from bus.transports.topology import history_queue

ANSWERS = kinds_of(TellPart, TellHeads)
PREFETCH = 1000
REPORTED_FOR = 600.0
"""For how many seconds health reports what was refused."""

log = Logger("bus.history")


class NotAsked(InvalidMessage):
    """An answer lacks the token of a question: nobody asked its sender."""


class HistoryConsumer(BatchConsumer):
    """Stores the events that owners send, in order. A word on how far they reach counts only once
    they are stored, and only if it comes from the owner that was asked."""

    def __init__(
        self,
        runtime: Runtime,
        followed: FollowedLog,
        foreign_events: ForeignEvents,
        asking: Asking,
        give_up: GiveUp,
    ) -> None:
        queue, signals = history_queue(runtime.service).name, runtime.signals
        super().__init__(queue, runtime.transport, prefetch=PREFETCH, signals=signals)
        self._runtime = runtime
        self._followed = followed
        self._foreign_events = foreign_events
        self._asking = asking
        self._give_up = give_up
        self._turns = Turns()
        self._refused = 0
        self._refused_at = 0.0

    @property
    def checks(self) -> Sequence[Check]:
        return [Check("history answers", self._refusals)]

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        waiting: list[Arrived] = []
        taken_in: list[Delivery] = []
        for delivery in deliveries:
            try:
                if delivery.frame.name in ANSWERS:
                    word = word_in(delivery.frame, ANSWERS)
                    # First, or a crash in between would leave the word without its events.
                    await self._keep(waiting)
                    waiting = []
                    await self._take_in(word)
                else:
                    waiting += self._read(delivery)
                taken_in.append(delivery)
            except InvalidMessage as error:
                self._note(error)
                await self._give_up(delivery, error, handler=self.queue, attempts=1, unread=True)
        await self._keep(waiting)
        for delivery in taken_in:
            await repaired(self._runtime.control, delivery, signals=self._runtime.signals)

    def _read(self, delivery: Delivery) -> list[Arrived]:
        if not self._foreign_events.follows(delivery.frame):
            raise InvalidMessage(f"{delivery.frame.name[:100]}: nobody here follows its category")
        return self._foreign_events.read(delivery)

    async def _keep(self, arrived: Sequence[Arrived]) -> None:
        await self._foreign_events.keep(arrived)
        await hurry(self._runtime, {commit.stream for _, commit in arrived})

    async def _take_in(self, word: Word) -> None:
        if word.category not in self._runtime.history.owners:
            raise InvalidMessage(f"nobody here follows {word.category[:100]!r}")
        match word:
            case TellPart():
                await self._advance(word)
            case TellHeads():
                await self._compare(word)

    async def _advance(self, received: TellPart) -> None:
        part, history = received.without_mark(), self._runtime.history
        if not await self._asking.is_answer(part):
            await self._ask_oneself(await history.progress(part.category))
            await self._doubt(part)
            return
        if received.token:
            await history.answered(part.category)
        progress = await history.change(part.category, partial(_advanced, part))
        if progress.is_done:
            log.info("history_complete", category=part.category, events=progress.events)
        elif progress.place == part.place:
            await self._ask(progress, marked=not received.token)

    async def _ask_oneself(self, progress: Progress) -> None:
        """Asks once more, with a token that every release sends back: what came may be the answer
        of an owner whose release knows no tokens, or one to a process of such a release here."""
        key = f"part/{progress.category}"
        if not progress.is_done and self._turns.is_due(key, progress.place, ASK_AGAIN):
            await self._ask(progress, marked=True)

    async def _ask(self, progress: Progress, *, marked: bool) -> None:
        with suppress(TransportUnavailable, Unroutable):  # it is asked for again anyway
            await self._asking.part(progress.category, progress.place, marked=marked)

    async def _doubt(self, word: Word) -> None:
        """Raises: NotAsked, unless its sender may not know tokens yet."""
        if word.token or await self._runtime.history.answers(word.category):
            raise NotAsked(
                f"{word.title()}: it does not carry the token that service "
                f"{self._runtime.history.owners[word.category]!r} was asked with"
            )

    def _note(self, error: InvalidMessage) -> None:
        if isinstance(error, NotAsked):
            self._refused += 1
            self._refused_at = time.monotonic()

    async def _refusals(self) -> str | None:
        if not self._refused or time.monotonic() - self._refused_at > REPORTED_FOR:
            return None
        return (
            f"{self._refused} answers were refused: they do not carry the token of a question; who "
            f"else may publish to {self.queue}? (`bus deadletters list` shows some of them)"
        )

    async def _compare(self, heads: TellHeads) -> None:
        if await self._asking.is_answer(heads):
            await self._runtime.history.answered(heads.category)
        else:
            await self._doubt(heads)
        held = await self._followed.heads(list(heads.versions))
        behind = {s: held.get(s, 0) for s, v in heads.versions.items() if held.get(s, 0) < v}
        if behind:
            log.warning("events_missed", category=heads.category, streams=len(behind))
            try:
                await self._asking.streams(heads.category, behind)
            except Unroutable:  # compared again once the owner is there
                return
        if heads.until:
            until = min(heads.until, self._runtime.control.now())
            await self._runtime.history.change(
                heads.category, lambda progress: progress._replace(compared=until)
            )


async def hurry(runtime: Runtime, streams: set[str]) -> None:
    """Lets streams that wait for a missing event be tried now, because it may have come."""
    control = runtime.control
    for target in await runtime.targets() if streams else ():
        for parked in await control.parked(target):
            if parked.is_missed and parked.stream in streams:
                await control.park(target, parked._replace(next_try=control.now()))


def _advanced(part: TellPart, progress: Progress) -> Progress:
    """Returns the progress once a part is here; unchanged if the part begins beyond what is here,
    because then something between is missing."""
    if progress.is_done or part.after > progress.place:
        return progress
    return progress._replace(
        place=max(progress.place, part.place),
        events=progress.events + (part.events if part.after == progress.place else 0),
        is_done=part.is_end,
        compared=progress.compared or part.time,
    )

"""Sends this service's history, from its own log, to the queue of one follower alone.

The follower asks for one part after the other and so sets the pace; it asks again for a part that
was not finished.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from itertools import groupby
from operator import attrgetter

from bus.codec import event_frames
from bus.data.ids import category_of
from bus.delivery.consumer import BatchConsumer
from bus.errors import MessageError, Unroutable
from bus.failures.deadletters import repaired
from bus.failures.give_up import GiveUp
from bus.following.protocol import (
    HEADS_AT_ONCE,
    AskHeads,
    AskPart,
    AskStreams,
    Question,
    TellHeads,
    TellPart,
    Word,
    answer_frame,
    kinds_of,
    word_in,
)
from bus.observe.log import Logger
from bus.stores.control import Control
from bus.stores.event_log import Commit, EventLog
from bus.transports.base import Delivery, Frame, Transport, refusal
from bus.transports.topology import history_queue, requests_queue

PART = 2000
"""About how many events are in a part, which ends with a stream."""
COMMITS_OF_A_STREAM = 1000
IN_FLIGHT = 200
PAUSE = 0.01
"""Seconds between so many, to leave the broker free for others."""
GRACE = timedelta(seconds=30)
"""Younger events may still be on their way."""

QUESTIONS = kinds_of(AskPart, AskStreams, AskHeads)

log = Logger("bus.history")


class ReplayConsumer(BatchConsumer):
    """Answers the services that follow this one."""

    def __init__(
        self,
        service: str,
        event_log: EventLog,
        transport: Transport,
        control: Control,
        give_up: GiveUp,
    ) -> None:
        super().__init__(requests_queue(service).name, transport, signals=give_up.signals)
        self._log = event_log
        self._control = control
        self._give_up = give_up

    async def process(self, deliveries: Sequence[Delivery]) -> None:
        for question in await self._latest(deliveries):
            sender = HistorySender(question.service, self._transport)
            try:
                await self._answer(question, sender)
                await sender.flush()
            except Unroutable:
                log.warning("follower_not_there", service=question.service)

    async def _latest(self, deliveries: Sequence[Delivery]) -> list[Question]:
        """Returns the questions to answer: if one was asked again meanwhile, only the last time."""
        found: dict[object, Question] = {}
        for delivery in deliveries:
            try:
                question = word_in(delivery.frame, QUESTIONS)
            except MessageError as error:
                await self._give_up(delivery, error, handler=self.queue, attempts=1, unread=True)
            else:
                of_streams = isinstance(question, AskStreams) and frozenset(question.streams)
                found[question.service, question.category, type(question), of_streams] = question
                await repaired(self._control, delivery, signals=self._give_up.signals)
        return list(found.values())

    async def _answer(self, question: Question, sender: "HistorySender") -> None:
        match question:
            case AskPart():
                await self._send_part(question, sender)
            case AskStreams():
                await self._send_streams(question, sender)
            case AskHeads():
                await self._send_heads(question, sender)

    async def _send_part(self, question: AskPart, sender: "HistorySender") -> None:
        time = await self._log.settled() - GRACE
        category, after = question.category, question.after
        place, is_end = after, True
        current = ""
        async with aclosing(self._streams(category, after)) as streams:
            async for stream, commits in streams:
                if stream != current:
                    place, current = current or after, stream
                    if sender.events >= PART:
                        is_end = False
                        break
                await sender.send(commits)
        await sender.send_word(
            TellPart(
                category=category,
                token=question.token,
                after=after,
                place=(current or after) if is_end else place,
                events=sender.events,
                is_end=is_end,
                time=time,
            )
        )
        log.info("history_sent", to=question.service, category=category, events=sender.events)

    async def _streams(
        self, category: str, after: str
    ) -> AsyncGenerator[tuple[str, Sequence[Commit]]]:
        """Yields each stream beyond `after` with its commits; a long stream several times."""
        async for page in self._log.scan_streams(category, after):
            for stream, commits in groupby(page, attrgetter("stream")):
                yield stream, list(commits)

    async def _send_streams(self, question: AskStreams, sender: "HistorySender") -> None:
        """Sends what is durable: a follower keeps it, whatever is stored in its place later."""
        read = partial(self._log.read_durable, limit=COMMITS_OF_A_STREAM)
        for stream, version in question.streams.items():
            if category_of(stream) == question.category:
                while commits := await read(stream, version):
                    await sender.send(commits, after=version)
                    version = commits[-1].last

    async def _send_heads(self, question: AskHeads, sender: "HistorySender") -> None:
        until = await self._log.settled() - GRACE
        category, token, heads = question.category, question.token, dict[str, int]()
        async for commit in self._log.arrived([category], question.since, until):
            heads[commit.stream] = max(commit.last, heads.get(commit.stream, 0))
            if len(heads) == HEADS_AT_ONCE:
                await sender.send_word(TellHeads(category=category, token=token, versions=heads))
                heads = {}
        await sender.send_word(
            TellHeads(category=category, token=token, versions=heads, until=until)
        )


class HistorySender:
    """Sends to one service, in order, a bounded number in flight, each confirmed.

    Raises: Unroutable (its queue is gone), TransportUnavailable.
    """

    def __init__(self, service: str, transport: Transport) -> None:
        self._service = service
        self._queue = history_queue(service).name
        self._transport = transport
        self._waiting: list[Frame] = []
        self.events = 0

    async def send(self, commits: Sequence[Commit], after: int = 0) -> None:
        """Sends their events beyond a version."""
        for commit in commits:
            for version, frame in enumerate(event_frames(commit), commit.first):
                if version > after:
                    await self._event(frame._replace(address="queue", topic=self._queue))

    async def send_word(self, word: Word) -> None:
        """Sends a word on what was sent before it, once that is all confirmed."""
        await self.flush()
        self._waiting.append(answer_frame(self._service, word))
        await self.flush()

    async def flush(self) -> None:
        """Publishes what waits."""
        frames, self._waiting = self._waiting, []
        if frames:
            for failure in (await self._transport.publish(frames, must_route=True)).values():
                raise failure

    async def _event(self, frame: Frame) -> None:
        if problem := refusal(frame):
            log.error("event_unsendable", message_id=frame.id, reason=str(problem))
            return
        self.events += 1
        self._waiting.append(frame)
        if len(self._waiting) >= IN_FLIGHT:
            await self.flush()
            await asyncio.sleep(PAUSE)

"""Takes other services' events from a feed, and publishes them here as their owner would have.

What is new goes to this service's own exchange first, signed, and then into the copy of the other
service's streams; only then is it settled in the feed. So a crash repeats an event to handlers, and
loses none; what the copy holds already was published before, and is passed over. History, which
happened before the service was first fed, goes into the copy alone: projections are built from
there, and handlers hear what happens from then on, as over RabbitMQ.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial

from bus.assembly.runtime import Runtime
from bus.codec import followed_commit
from bus.common import clock
from bus.data.ids import category_of
from bus.delivery.foreign_events import Arrived, ForeignEvents
from bus.errors import InvalidMessage
from bus.failures.give_up import GiveUp
from bus.failures.retry import Holding, Stopped, insist
from bus.following.receiver import hurry
from bus.lifecycle.duty import Duty
from bus.observe.health import Check
from bus.observe.log import Logger
from bus.signing import FED, SIGNATURE
from bus.stores.control import change_note
from bus.stores.event_log import FollowedLog
from bus.transports.base import Delivery, Frame
from bus.transports.feed import Fed, Feed, FeedReader
from bus.transports.topology import history_queue

BATCH = 500
LOOK_EVERY = 2.0

log = Logger("bus.feeding")


class Feeding:
    """Reads one feed in a worker."""

    def __init__(
        self,
        runtime: Runtime,
        followed: FollowedLog,
        feed: Feed,
        categories: Collection[str],
        give_up: GiveUp,
    ) -> None:
        self._runtime = runtime
        self._followed = followed
        self._feed = feed
        self._categories = categories
        self._give_up = give_up
        self._foreign_events = ForeignEvents(followed, categories, give_up)
        self._queue = history_queue(runtime.service).name
        self._key = f"fed/{feed.name}"
        self._holding = Holding(feed.name)
        self._stopping = asyncio.Event()
        self._look_at = 0.0
        self._is_asked = False
        self._is_history = False
        """Whether what the topic had is still being read."""
        self._since: dict[str, datetime] = {}
        """When a worker first wanted to be fed with each category."""
        self._made = runtime.control.now()  # this process's own clock may be wrong

    @property
    def duty(self) -> Duty:
        check = Check(f"feed of {self._feed.name}", self._problem, "ready")
        return Duty(self._feed.name, self.run, checks=[check], stop=self._stop)

    async def run(self) -> None:
        """Reads until stopped; begins anew where the history is asked for again."""
        while not self._stopping.is_set():
            await self._read(await self._begin())

    async def _stop(self, timeout: float) -> None:
        self._stopping.set()

    async def _problem(self) -> str | None:
        return self._holding.reason

    async def _read(self, run: int) -> None:
        group = self._runtime.service + (f".{run}" if run > 1 else "")
        owner = self._runtime.foreign.owners[next(iter(self._categories))]
        reader = self._feed.reader(owner, group)
        try:
            await reader.open()
            while not self._stopping.is_set():
                if taken := await reader.take(BATCH):
                    await insist(partial(self._take_in, taken), self._holding, self._stopping)
                    await reader.settle(taken)
                if not await self._goes_on(reader, run):
                    return
        except Stopped:
            pass
        finally:
            await reader.close()

    # --- what was read -------------------------------------------------------------------------

    async def _take_in(self, taken: Sequence[Fed]) -> None:
        """Publishes and stores what is new; gives up what cannot be read. Idempotent."""
        read: list[Arrived] = []
        for fed in taken:
            delivery = Delivery(fed.frame, self._queue, 0, 0)
            try:
                if fed.error:
                    raise fed.error
                if category_of(str(fed.frame.headers["stream"])) in self._categories:
                    commit = followed_commit(fed.frame)
                    headers = {**fed.frame.headers, FED: fed.place}
                    read.append((delivery._replace(frame=_with(fed.frame, headers)), commit))
            except InvalidMessage as error:
                await self._give_up(delivery, error, handler=self._queue, attempts=1, unread=True)
        await self._publish([one for one in await self._new(read) if self._is_heard(one)])
        # All of it: what an earlier try has left in the copy may not be durable yet.
        await self._foreign_events.keep(read)
        await hurry(self._runtime, {commit.stream for _, commit in read})

    def _is_heard(self, arrived: Arrived) -> bool:
        _, commit = arrived
        return not self._is_history or commit.time >= self._since[commit.category]

    async def _new(self, read: Sequence[Arrived]) -> list[Arrived]:
        """Returns what the copy does not hold yet, each event once."""
        heads = await self._followed.heads(sorted({commit.stream for _, commit in read}))
        found: dict[tuple[str, int], Arrived] = {}
        for arrived in read:  # of one that is there twice, the copy keeps the first
            found.setdefault((arrived[1].stream, arrived[1].first), arrived)
        doubted = defaultdict(list)
        for stream, version in found:
            if version <= heads.get(stream, 0):
                doubted[stream].append(version)
        for stream, versions in doubted.items():
            for commit in await self._followed.read(stream, after=min(versions) - 1):
                found.pop((stream, commit.first), None)
        return list(found.values())

    async def _publish(self, new: Sequence[Arrived]) -> None:
        deliveries = {delivery.frame.id: delivery for delivery, _ in new}
        frames = [self._signed(delivery.frame) for delivery in deliveries.values()]
        for id, failure in (await self._runtime.transport.publish(frames)).items():
            if not isinstance(failure, InvalidMessage):
                raise failure
            delivery = deliveries[id]
            await self._give_up(delivery, failure, handler=self._queue, attempts=1, unread=True)

    def _signed(self, frame: Frame) -> Frame:
        return _with(frame, {**frame.headers, SIGNATURE: self._runtime.signing.sign(frame)})

    # --- how far it is -------------------------------------------------------------------------

    async def _begin(self) -> int:
        """Returns how often the history was asked for."""
        since = dict.fromkeys(self._categories, self._made.isoformat())
        note = await change_note(
            self._runtime.control,
            self._key,
            lambda found: {**found, "since": since | found.get("since", {})},
        )
        self._since = {name: datetime.fromisoformat(at) for name, at in note["since"].items()}
        for category, heard in self._since.items():
            await self._runtime.history.note_heard(category, heard)
        self._is_history = not note.get("done")
        return int(note.get("run", 1))

    async def _goes_on(self, reader: FeedReader, run: int) -> bool:
        """Returns whether to go on with this reader; notes once the history is here.

        The note says first that it is, and the categories' progress after that: where only the
        note does, the history was asked for again, or a category was added, and a new group reads
        all from the start.
        """
        if clock.source.elapsed() < self._look_at:
            return True
        self._look_at = clock.source.elapsed() + LOOK_EVERY
        history = self._runtime.history
        note = (await self._runtime.control.note(self._key)).value
        self._is_history = not note.get("done")
        if note.get("run", 1) != run:
            return False
        if not await history.missing(self._categories):
            return True
        is_asked, self._is_asked = self._is_asked, bool(note.get("done"))
        if note.get("done") and not is_asked:
            return True  # another worker may be about to note the progress
        if note.get("done"):
            log.info("history_requested", category=min(self._categories), after="")
            await self._note(run, {"run": run + 1})
            return False
        if not note.get("ends"):
            await self._note(run, {"run": run, "ends": await reader.ends()})
        elif await reader.has_reached(note["ends"]):
            await self._note(run, {"run": run, "ends": note["ends"], "done": True})
            for category in self._categories:
                await history.change(category, lambda found: found._replace(is_done=True))
                log.info("history_complete", category=category)
        return True

    async def _note(self, run: int, value: dict[str, object]) -> None:
        await change_note(
            self._runtime.control,
            self._key,
            lambda found: (
                {**value, "since": found.get("since", {})} if found.get("run", 1) == run else found
            ),
        )


def _with(frame: Frame, headers: dict[str, str | int]) -> Frame:
    return frame._replace(headers=headers)

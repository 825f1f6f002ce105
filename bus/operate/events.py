"""Events: shows a service's log as it is stored, and sends events from it again. Nothing here
changes it."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import NamedTuple

from bus.assembly.runtime import OnOpenBus
from bus.common import clock
from bus.data.payload import Document
from bus.operate.conversation import TraceEntry, traced
from bus.operate.deadletter_view import letter_of
from bus.operate.deadletters import DeadLetters
from bus.recovery.republishing import Report, Republished, Republishing
from bus.stores.event_log import Commit, EventCount

PAGE = 500
MOST_LETTERS = 1000
CLOCKS_APART = timedelta(hours=1)


class StoredEvent(NamedTuple):
    """An event as stored in the log, in the shape and under the name that it had then.

    `causation_id` is the id of the command or event whose handler recorded it.
    """

    stream: str
    version: int
    name: str
    schema: int
    time: datetime
    id: str
    correlation_id: str
    causation_id: str
    data: Document


class Events(OnOpenBus):
    """Shows the event log of an open bus, and sends events from it again.

        async for event in Events(bus).show("account-a1"):
            print(event.version, event.name, event.data)

    Raises: StoreUnavailable; ConfigurationError if the bus is not open.
    """

    async def unknown(self) -> list[EventCount]:
        """Counts the events whose names no aggregate, event handler or projection here knows; they
        are passed over. Reads the whole log."""
        return await self._runtime.event_log.tally(self._runtime.known_names)

    async def show(self, stream: str, *, after: int = 0) -> AsyncIterator[StoredEvent]:
        """Yields the stream's events beyond version `after`, in order."""
        while page := await self._runtime.event_log.read(stream, after, PAGE):
            for commit in page:
                for event in _events_in(commit):
                    if event.version > after:
                        yield event
            after = page[-1].last
            if len(page) < PAGE:
                return

    async def tail(
        self, *, category: str = "", last: int = 10
    ) -> AsyncGenerator[StoredEvent, None]:
        """Yields the events of the `last` commits, then those of each new commit, without end.

        Raises: ConfigurationError (MongoDB without a replica set).
        """
        categories = [category] if category else []
        async with aclosing(self._runtime.event_log.follow(last, categories)) as following:
            async for commit in following:
                for event in _events_in(commit):
                    yield event

    async def trace(self, correlation_id: str) -> list[TraceEntry]:
        """Returns the commands and events of a conversation, each after its cause, and its dead
        letters.

        Reads what was stored since the id was made, if the id is a UUID of version 7 (as the bus
        makes them); otherwise the whole log.
        """
        commits = await self._runtime.event_log.conversation(correlation_id, _since(correlation_id))
        rows = await self._runtime.control.dead_letters(
            MOST_LETTERS, where={"correlation_id": correlation_id}
        )
        letters = [letter_of(row) for row in rows]
        return traced(commits, [*letters, *await DeadLetters(self._bus).streams()])

    async def republish(
        self,
        to: str,
        *,
        since: datetime,
        until: datetime | None = None,
        dry_run: bool = False,
        report: Report | None = None,
    ) -> Republished:
        """Sends the events stored from `since` to `until` (by default now) to one subscription
        again; with `to="commands"`, the commands that units of work sent.

        Sends only what the subscription's queues are bound to, with the same ids and headers, so
        that what was handled counts once (see `bus.recovery.republishing`). With `dry_run` it only
        counts. `report` is called with the time reached and the number of events sent: after an
        error, continue from that time.

        Raises: ConfigurationError (no such subscription), Unroutable (its queue is gone),
        TransportUnavailable.
        """
        return await Republishing(self._runtime, to, report).run(since, until, dry_run=dry_run)


def _since(correlation_id: str) -> datetime | None:
    """Returns the earliest time the conversation can have begun at, because clocks disagree."""
    made = clock.time_of(correlation_id)
    return made and made - CLOCKS_APART


def _events_in(commit: Commit) -> Iterator[StoredEvent]:
    for place, event in enumerate(commit.events):
        yield StoredEvent(
            stream=commit.stream,
            version=commit.first + place,
            name=event.name,
            schema=event.schema,
            time=commit.time,
            id=commit.event_id(place),
            correlation_id=commit.correlation_id,
            causation_id=commit.causation_id or commit.id,
            data=event.data,
        )

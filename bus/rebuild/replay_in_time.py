"""Replay in time: fills a new collection from the log as if its events arrived again.

For projections whose documents are fed by several streams, or that read their own documents: they
get the events in the order of their times, in transactions, as from a queue.
"""

from collections.abc import Sequence
from datetime import datetime

from bus.codec import envelopes_of
from bus.common.batches import gathered
from bus.errors import MessageError
from bus.messages import Envelope
from bus.read.projector import Projector
from bus.rebuild.replay import Progress, Reached, Replay
from bus.stores.collections import Collections, LoadsStreams, able
from bus.stores.event_log import Commit, ReadableLog
from bus.stores.sinks.returned import are_fed_apart
from bus.transports.topology import slot_of

AT_ONCE = 500
"""Commits in one batch, about."""


class ReplayInTime:
    """Replays a share of the streams into one collection."""

    def __init__(self, projector: Projector, log: ReadableLog) -> None:
        self._projector = projector
        self._log = log

    async def run(self, reached: Reached, until: str, progress: Progress) -> None:
        """Replays from the time that was reached. `until` chooses the streams: "0of2" means every
        second slot, "" all of them.

        Calls `progress` after each batch. Raises: StoreUnavailable, OutcomeUnknown, InTrouble
        (replaying the same again is safe).
        """
        own, _, of = (until or "0of1").partition("of")
        since = datetime.fromisoformat(reached.place) if reached.place else None
        count = reached.commits
        scan = self._log.scan(self._projector.projection.categories, since)
        async for commits in gathered(scan, AT_ONCE * int(of)):
            mine = [c for c in commits if slot_of(c.stream) % int(of) == int(own)]
            count += len(mine)
            await self._apply(mine)
            await progress(Reached(commits[-1].time.isoformat(), count))

    async def _apply(self, commits: Sequence[Commit]) -> None:
        """Applies commits as if they arrived; unreadable ones are left to the projector."""
        registry = self._projector.projection.registry()
        arrived: list[Envelope] = []
        aside: list[str] = []
        for commit in commits:
            try:
                arrived += envelopes_of(commit, registry)
            except MessageError:
                aside.append(commit.stream)
        await self._projector.apply(arrived)
        if aside:
            await self._projector.apply_streams(aside)


def folds_streams(projector: Projector, collections: Collections) -> bool:
    """Returns whether the projector's collection is filled by stream: each feeds its own document,
    or makes a row that its place can load."""
    if projector.target.versions_in_documents:
        return True
    handlers = projector.projection.handlers.values()
    is_apart = are_fed_apart(projector.projection.categories, handlers)
    loads = able(collections, LoadsStreams, projector.target) is not None
    return loads and is_apart and all(handler.is_row for handler in handlers)


def replay_into(
    projector: Projector, log: ReadableLog, collections: Collections, *, by_stream: bool
) -> Replay | ReplayInTime:
    """Returns what fills the projector's collection."""
    if by_stream:
        return Replay(projector, log, collections)
    return ReplayInTime(projector, log)

"""Group commit: appends that arrive together share one insert; each gets its own outcome."""

import asyncio
import time

from bus.common.tasks import OthersTime
from bus.errors import InvalidMessage, StoreUnavailable
from bus.stores.event_log import Commit
from bus.stores.mongo.client import Collection
from bus.stores.mongo.grouping import Grouping
from bus.stores.mongo.settling import SETTLE_WITHIN, Append, Appended, Settling
from bus.stores.records import commit_document, encoded

MOST_DOCUMENTS = 500
MOST_BYTES = 8 * 1024 * 1024
PATIENCE = 0.5
MOST_OVERTAKEN = 8


class Appender:
    """Writes commits of one stream each. Cancelling a caller affects neither the write nor others.

    One group is written at a time. If one takes long (because a stream of it is locked, say),
    groups of other streams overtake it.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._arrived: list[Append] = []
        self._grouping = Grouping(self._write_next)
        self._overtaken: dict[Settling, Grouping] = {}
        self._current: Settling | None = None
        self._since = 0.0
        self._looking: asyncio.TimerHandle | None = None

    async def append(self, commit: Commit) -> Appended:
        """Stores one commit and returns what became of it.

        Raises: InvalidMessage, OutcomeUnknown, StoreUnavailable, ConfigurationError.
        """
        waiting: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._arrived.append(Append(commit, time.monotonic(), waiting))
        self._grouping.arrived()
        with OthersTime():
            return await waiting

    async def close(self) -> None:
        """Waits until every append that was begun is settled."""
        for grouping in [*self._overtaken.values(), self._grouping]:
            await grouping.close()

    async def _write_next(self) -> bool:
        """Writes a group; returns whether this grouping has more to write."""
        settling = self._current = Settling(self._collection, self._next_group())
        self._since = time.monotonic()
        if self._looking is None:
            self._look_in(PATIENCE)
        try:
            await settling.run()
        except BaseException:
            settling.stop()
            raise
        finally:
            was_overtaken = self._overtaken.pop(settling, None) is not None
            if self._current is settling:
                self._current = None
        if was_overtaken:
            # Another grouping writes now. Appends to this group's streams waited for it, so that
            # grouping has to be started: nothing else would.
            self._go_on()
            return False
        return self._has_more

    def _look_in(self, seconds: float) -> None:
        """Sets the timer that all groups share: one each would cost more than what it guards."""
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._current is None:
            return
        left = self._since + PATIENCE - time.monotonic()
        if left <= 0:
            self._overtake(self._current)
        self._look_in(left if left > 0 else PATIENCE)

    def _overtake(self, settling: Settling) -> None:
        """Lets another grouping write what arrives from now on."""
        if settling not in self._overtaken and len(self._overtaken) < MOST_OVERTAKEN:
            self._overtaken[settling] = self._grouping
            self._grouping = Grouping(self._write_next)
            self._go_on()

    def _go_on(self) -> None:
        if self._has_more:
            self._grouping.arrived()

    @property
    def _has_more(self) -> bool:
        if not self._overtaken:
            return bool(self._arrived)
        held = self._held
        return any(append.commit.stream not in held for append in self._arrived)

    @property
    def _held(self) -> set[str]:
        """The streams of overtaken groups. Further appends to them wait: otherwise they would hold
        up the next group as well."""
        return {stream for settling in self._overtaken for stream in settling.streams}

    def _next_group(self) -> list[Append]:
        """Takes what fits into one insert; what has waited too long was never sent, and fails.

        Encodes them here, many in one go: one by one, between other work, takes longer.
        """
        group: list[Append] = []
        later: list[Append] = []
        size = taken = 0
        held = self._held if self._overtaken else ()
        oldest = time.monotonic() - SETTLE_WITHIN
        for append in self._arrived:
            if len(group) == MOST_DOCUMENTS or size > MOST_BYTES:
                break
            taken += 1
            if append.since < oldest:
                append.fail(StoreUnavailable(f"{append.commit.id}: MongoDB did not answer in time"))
            elif append.commit.stream in held:
                later.append(append)
            elif not append.waiting.cancelled() and _encode(append):
                group.append(append)
                size += len(append.data)
        self._arrived[:taken] = later
        return group


def _encode(append: Append) -> bool:
    """Encodes a commit; returns whether it can be stored, and fails the append if not."""
    try:
        append.data = encoded(commit_document(append.commit))
    except InvalidMessage as error:
        append.fail(error)
        return False
    return True

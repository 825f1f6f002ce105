"""Group commit: appends that arrive together share one insert; each gets its own outcome."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bus.common.tasks import OthersTime
from bus.errors import InvalidMessage, OutcomeUnknown, StoreUnavailable
from bus.stores.event_log import Commit
from bus.stores.together.groups import Grouping, reject, resolve

SETTLE_WITHIN = 10.0
MOST_DOCUMENTS = 500
MOST_BYTES = 8 * 1024 * 1024
PATIENCE = 0.5
MOST_OVERTAKEN = 8

# A clock that goes on while the machine sleeps, if there is one: what was asked for before is late.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Appended(Enum):
    """What became of an append."""

    STORED = "stored"
    REPEAT = "the id stands in the log already"
    CONFLICT = "the place in the stream is taken"
    FENCED = "the log takes no commits any more"


@dataclass(slots=True, eq=False)
class Append:
    """One commit under way, and its waiting caller."""

    commit: Commit
    since: float
    waiting: "asyncio.Future[Appended]"
    data: Any = b""
    """The commit as it is sent, once it is in a group; its length is in bytes."""

    def settle(self, outcome: Appended) -> None:
        resolve(self.waiting, outcome)

    def fail(self, error: Exception) -> None:
        reject(self.waiting, error)


Group = Sequence[Append]


class Settles(ABC):
    """Stores one group, until each of its appends is settled."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._open = list(group)
        """What is not settled yet."""

    @property
    def streams(self) -> set[str]:
        """The streams of the group."""
        return {append.commit.stream for append in self._group}

    @abstractmethod
    async def run(self) -> None:
        """Settles each append, or fails it."""

    def stop(self) -> None:
        """Fails the appends that are not settled yet, as unknown."""
        for append in self._open:
            append.fail(OutcomeUnknown(f"{append.commit.id}: the writer was stopped"))

    def _close(self, group: Group, outcome: Appended) -> None:
        for append in group:
            append.settle(outcome)
        self._leave_out(group)

    def _fail(self, group: Group, error: Exception) -> None:
        for append in group:
            append.fail(error)
        self._leave_out(group)

    def _leave_out(self, group: Group) -> None:
        settled = set(map(id, group))
        self._open = [append for append in self._open if id(append) not in settled]


class Appender:
    """Writes commits of one stream each. Cancelling a caller affects neither the write nor others.

    One group is written at a time. If one takes long (because a stream of it is locked, say),
    groups of other streams overtake it.
    """

    def __init__(
        self,
        settles: Callable[[Group], Settles],
        encode: Callable[[Commit], Any],
        *,
        store: str,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`settles` makes what stores a group; `encode` returns what of a commit is sent, whose
        length is in bytes, or raises InvalidMessage. `store` is the database's name."""
        self._settles = settles
        self._encode = encode
        self._store = store
        self.most_bytes = most_bytes
        self._arrived: list[Append] = []
        self._grouping = Grouping(self._write_next)
        self._overtaken: dict[Settles, Grouping] = {}
        self._current: Settles | None = None
        self._since = 0.0
        self._looking: asyncio.TimerHandle | None = None

    async def append(self, commit: Commit) -> Appended:
        """Stores one commit and returns what became of it.

        Raises: InvalidMessage, OutcomeUnknown, StoreUnavailable, ConfigurationError.
        """
        waiting: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._arrived.append(Append(commit, time.clock_gettime(_STEADY), waiting))
        self._grouping.arrived()
        with OthersTime():
            return await waiting

    @property
    def load(self) -> tuple[bool, int]:
        """Whether a group is being written, and how many appends wait for the next one."""
        return self._current is not None, len(self._arrived)

    async def close(self) -> None:
        """Waits until every append that was begun is settled."""
        for grouping in [*self._overtaken.values(), self._grouping]:
            await grouping.close()

    async def _write_next(self) -> bool:
        """Writes a group; returns whether this grouping has more to write."""
        settling = self._current = self._settles(self._next_group())
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

    def _overtake(self, settling: Settles) -> None:
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
        oldest = time.clock_gettime(_STEADY) - SETTLE_WITHIN
        for append in self._arrived:
            if len(group) == MOST_DOCUMENTS or size > self.most_bytes:
                break
            taken += 1
            if append.since < oldest:
                append.fail(self._late(append))
            elif append.commit.stream in held:
                later.append(append)
            elif not append.waiting.cancelled() and self._encodes(append):
                group.append(append)
                size += len(append.data)
        self._arrived[:taken] = later
        return group

    def _encodes(self, append: Append) -> bool:
        """Encodes a commit; returns whether it can be stored, and fails the append if not."""
        try:
            append.data = self._encode(append.commit)
        except InvalidMessage as error:
            append.fail(error)
            return False
        return True

    def _late(self, append: Append) -> StoreUnavailable:
        return StoreUnavailable(f"{append.commit.id}: {self._store} did not answer in time")

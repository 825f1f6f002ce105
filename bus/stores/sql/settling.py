"""Settles appends that were sent in one statement: each gets its own outcome, and the true one.

An error may say that nothing was stored only if the server said so. After a statement whose outcome
is unknown, the log is looked into, and the same rows are sent again until the server answers: their
ids make that harmless.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from bus.common import clock
from bus.errors import InvalidMessage, OutcomeUnknown, StoreUnavailable, Unavailable
from bus.stores.event_log import Commit
from bus.stores.sql.engine import Database, Held
from bus.stores.sql.failures import (
    LOCK_WAITS,
    Kind,
    NoAnswer,
    bounded,
    code_of,
    is_of_store,
    kind_of,
    said,
    translated,
)
from bus.stores.sql.rows import FIELDS, commit_of
from bus.stores.sql.schema import commits as table
from bus.stores.together.appender import SETTLE_WITHIN, Append, Appended, Group, Settles

ATTEMPT_WITHIN = 6.0
LOOK_WITHIN = 2.0
MOST_ALONE = 8
PAUSE = 0.1
SHORT = 0.005

WRITTEN_WITHIN = timedelta(seconds=SETTLE_WITHIN)
"""How long after a group was made the server may begin to write it. An append waits as long for
its group, so that after twice that it is in the log, is known to be being written, or never is."""


class Settling(Settles):
    """Stores one group: tries until each of its appends is settled, or time is up."""

    def __init__(
        self, database: Database, held: Held, group: Group, before: "Settling | None" = None
    ) -> None:
        """`before` has tried these appends already: its deadline and its doubts hold here too."""
        self._database = database
        self._held = held
        super().__init__(group)
        self._deadline: float = before._deadline if before else time.monotonic() + SETTLE_WITHIN
        self._until: datetime = before._until if before else database.now() + WRITTEN_WITHIN
        self._doubt: BaseException | None = before._doubt if before else None
        self._trouble: BaseException | None = None

    async def run(self) -> None:
        while self._open:
            if not await self._attempt():
                await asyncio.sleep(clock.jittered(self._pause))
            if self._open and time.monotonic() + PAUSE > self._deadline:
                self._give_up()

    @property
    def _pause(self) -> float:
        return PAUSE if self._doubt else SHORT

    async def _attempt(self) -> bool:
        """Sends what is open; returns whether that settled anything."""
        before = len(self._open)
        batch = _different(self._open)
        rows = [append.data.row for append in batch]
        seconds = max(min(ATTEMPT_WITHIN, self._deadline - time.monotonic()), 0.5)
        try:
            async with bounded(seconds), self._held.driver() as driver:
                stored = await self._database.dialect.insert(driver, rows, self._until)
        except Exception as error:
            if not is_of_store(error):
                raise
            await self._failed(batch, error)
        else:
            self._trouble = None
            self._close([a for a in batch if a.commit.id in stored], Appended.STORED)
            if len(stored) < len(batch):
                await self._ask_log([a for a in batch if a.commit.id not in stored])
        return len(self._open) < before

    async def _failed(self, batch: Group, error: Exception) -> None:
        """Handles a statement that failed as a whole."""
        kind = kind_of(error)
        self._trouble = error
        if kind is Kind.CONTENT:
            await self._one_by_one(batch, error)
        elif kind is Kind.UNCLEAR:
            self._doubt = error
            await self._ask_log(batch)
            if isinstance(error, NoAnswer):
                await self._each_alone(batch)
        elif kind is Kind.FENCED:
            await self._ask_log(batch)  # the fence comes before ids are looked at
            if not self._doubt:
                self._close([one for one in batch if one in self._open], Appended.FENCED)
        elif kind is Kind.AGAIN:
            if code_of(error) in LOCK_WAITS:
                await self._database.end_stalled()
                await self._each_alone(batch)
        elif not self._doubt:
            # With a doubt, an earlier try may have stored it: the error would be wrong.
            self._fail(batch, translated(self._database.name, error, writing=True))

    async def _one_by_one(self, batch: Group, error: Exception) -> None:
        """Sends each append by itself, because the data of one has made the server refuse all."""
        if len(batch) == 1:
            self._fail(batch, translated(self._database.name, error, writing=True))
            return
        for append in batch:
            await Settling(self._database, self._held, [append], self).run()
        self._leave_out(batch)

    async def _each_alone(self, batch: Group) -> None:
        """Sends each append by itself: one may wait for another's lock, and those that wait for
        nothing are stored at once."""
        batch = [append for append in batch if append in self._open]
        if len(batch) < 2:
            return
        turns = asyncio.Semaphore(MOST_ALONE)

        async def alone(append: Append) -> None:
            async with turns:
                await Settling(self._database, self._held, [append], self).run()

        try:
            await asyncio.gather(*map(alone, batch))
        finally:
            self._leave_out([append for append in batch if append.waiting.done()])

    async def _ask_log(self, batch: Group) -> None:
        """Distinguishes a repeat, an earlier try that was stored, and a conflict; what the log does
        not hold, under its id or in its place, stays open."""
        doubt = self._doubt
        held = await self._found(batch)
        if held is None:
            return
        for append in batch:
            if stored := held.get(append.commit.id):
                # In a first try, an equal commit is a repeat as well. After a try in doubt, it is
                # that try's: to call it a repeat would be wrong.
                own = doubt and stored == append.commit
                self._close([append], Appended.STORED if own else Appended.REPEAT)
        rest = [append for append in batch if append.commit.id not in held]
        taken = await self._taken(rest) if rest else set()
        for append in rest:
            if taken and (append.commit.stream, append.commit.first) in taken:
                self._close([append], Appended.CONFLICT)

    async def _found(self, batch: Group) -> dict[str, Commit] | None:
        """Returns what the log holds of these appends, by id; None if it cannot be read."""
        query = sa.select(*FIELDS).where(table.c.id.in_([append.commit.id for append in batch]))
        try:
            rows = await self._database.rows(query, LOOK_WITHIN)
        except Unavailable:
            return None
        return {row.id: commit_of(row) for row in rows}

    async def _taken(self, batch: Group) -> set[tuple[str, int]] | None:
        """Returns which of their places are taken; None if that cannot be read.

        Looked up after the ids: what takes a place has its id in the log already, so that a commit
        of ours that is stored in between is not called a conflict.
        """
        places = [
            sa.and_(table.c.stream == append.commit.stream, table.c.first == append.commit.first)
            for append in batch
        ]
        query = sa.select(table.c.stream, table.c.first, table.c.id).where(sa.or_(*places))
        try:
            rows = await self._database.rows(query, LOOK_WITHIN)
        except Unavailable:
            return None
        own = {append.commit.id for append in batch}
        return {(row.stream, row.first) for row in rows if row.id not in own}

    def _give_up(self) -> None:
        for append in self._open:
            append.fail(
                unsettled(self._database.name, append.commit.id, self._doubt, self._trouble)
            )
        self._open = []


def unsettled(
    store: str, id: str, doubt: BaseException | None, trouble: BaseException | None
) -> Exception:
    """Returns the error for an append that was not settled in time."""
    if doubt is None:
        why = said(trouble) if trouble else "it came too late"
        return StoreUnavailable(
            f"{id}: {store} did not store it within {SETTLE_WITHIN:.0f} s ({why}); nothing was "
            f"written; repeat it"
        )
    return OutcomeUnknown(
        f"{id}: {store} did not say within {SETTLE_WITHIN:.0f} s whether it was stored "
        f"({said(doubt)}); repeat it with the same id"
    )


def _different(group: Sequence[Append]) -> list[Append]:
    """Returns those of different ids and places: of equal ones, a statement stores one, and does
    not say which."""
    seen: set[Any] = set()
    found = []
    for append in group:
        commit = append.commit
        keys = {commit.id, (commit.stream, commit.first)}
        if not keys & seen:
            seen |= keys
            found.append(append)
    return found


def too_large(store: str, id: str, size: int, most: int) -> InvalidMessage:
    """Returns the error for a commit that is larger than a statement may be."""
    return InvalidMessage(
        f"{id!r} cannot be stored: it takes {size} bytes, and {store} takes statements of {most} "
        f"(max_allowed_packet); raise that there, or record fewer or smaller events"
    )

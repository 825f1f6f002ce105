"""Group commit: appends that come together share one insert, and each gets its own outcome."""

import asyncio
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from bus import ambient
from bus.errors import InvalidMessage, OutcomeUnknown, StoreUnavailable
from bus.stores.base import Commit
from bus.stores.mongo.client import Collection, bounded
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    code_name,
    is_cut_short,
    is_refused,
    is_unclear,
    said,
    translated,
)
from bus.stores.mongo.grouping import Grouping, tell, tell_error
from bus.stores.records import commit_document, commit_from, encoded

MOST_DOCUMENTS = 500
MOST_BYTES = 8 * 1024 * 1024
SETTLE_WITHIN = 10.0
ATTEMPT_WITHIN = 4.0
PAUSE = 0.1


class Outcome(Enum):
    """What became of an append."""

    STORED = "stored"
    REPEAT = "the id stands in the log already"
    CONFLICT = "the place in the stream is taken"


class Append(NamedTuple):
    """One commit under way, and the caller who waits for it."""

    commit: Commit
    data: bytes
    since: float
    waiting: "asyncio.Future[Outcome]"

    def settle(self, outcome: Outcome) -> None:
        tell(self.waiting, outcome)

    def fail(self, error: Exception) -> None:
        tell_error(self.waiting, error)


Group = Sequence[Append]


class Appender:
    """Writes commits of one stream each. Cancelling a caller disturbs neither write nor others."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._arrived: list[Append] = []
        self._grouping = Grouping(self._write_next)

    async def append(self, commit: Commit) -> Outcome:
        """Stores one commit.

        Raises: InvalidMessage, OutcomeUnknown, StoreUnavailable, ConfigurationError.
        """
        data = encoded(commit_document(commit))
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._arrived.append(Append(commit, data, time.monotonic(), waiting))
        self._grouping.arrived()
        return await waiting

    async def close(self) -> None:
        """Waits until what was begun is settled."""
        await self._grouping.close()

    async def _write_next(self) -> bool:
        group = self._next_group()
        try:
            await _Settling(self._collection, group).run()
        except BaseException:
            for append in group:
                append.fail(OutcomeUnknown(f"{append.commit.id}: the writer was stopped"))
            raise
        return bool(self._arrived)

    def _next_group(self) -> Group:
        """Takes what fits into one insert; what has waited too long was never sent, and fails."""
        group: list[Append] = []
        size = taken = 0
        oldest = time.monotonic() - SETTLE_WITHIN
        for append in self._arrived:
            if len(group) == MOST_DOCUMENTS or size > MOST_BYTES:
                break
            taken += 1
            if append.since < oldest:
                append.fail(StoreUnavailable(f"{append.commit.id}: MongoDB did not answer in time"))
            elif not append.waiting.cancelled():
                group.append(append)
                size += len(append.data)
        del self._arrived[:taken]
        return group


class _Settling:
    """One group on its way: tried until each of its appends is settled, or time is up."""

    def __init__(self, collection: Collection, group: Group) -> None:
        self._collection = collection
        self._open = list(group)
        self._doubt: Exception | None = None
        self._deadline = time.monotonic() + SETTLE_WITHIN

    async def run(self) -> None:
        """Inserts the same documents again and again: their ids make that harmless."""
        while self._open:
            await self._attempt()
            if self._open:
                if time.monotonic() + PAUSE > self._deadline:
                    self._give_up()
                    return
                await asyncio.sleep(ambient.jittered(PAUSE))

    async def _attempt(self) -> None:
        seconds = max(min(ATTEMPT_WITHIN, self._deadline - time.monotonic()), 0.5)
        try:
            async with bounded(seconds):
                await self._collection.insert_many(
                    [RawBSONDocument(append.data) for append in self._open], ordered=False
                )
        except BulkWriteError as error:
            await self._sort_out(error.details, error)
        except PyMongoError as error:
            await self._failed(error)
        else:
            self._close(self._open, Outcome.STORED)

    async def _failed(self, error: PyMongoError) -> None:
        """The insert failed as a whole."""
        if is_refused(error):
            await self._one_by_one(error)
        elif is_unclear(error) or self._doubt:
            self._doubt = error
        else:
            self._fail(self._open, translated(error, writing=True))

    async def _one_by_one(self, error: PyMongoError) -> None:
        """One document spoils the insert (nested too deeply, say): the others must not suffer."""
        if len(self._open) == 1:
            self._fail(self._open, InvalidMessage(f"MongoDB refuses the commit: {said(error)}"))
        for append in list(self._open):
            alone = _Settling(self._collection, [append])
            alone._doubt = self._doubt
            await alone.run()
            self._open.remove(append)

    async def _sort_out(self, details: Any, error: BulkWriteError) -> None:
        """Settles what the answer is clear about; the rest stays open for the next attempt."""
        failed = {one["index"]: one for one in details["writeErrors"]}
        group = list(self._open)
        if details["writeConcernErrors"]:
            self._doubt = error
            return
        self._close([a for i, a in enumerate(group) if i not in failed], Outcome.STORED)
        duplicates = {}
        for index, one in failed.items():
            if one["code"] == DUPLICATE_KEY:
                duplicates[group[index].commit.id] = one.get("keyPattern", {})
            elif not is_cut_short(one["code"]):
                refusal = InvalidMessage(f"MongoDB refuses the commit: {code_name(one['code'])}")
                self._fail([group[index]], refusal)
        await self._tell_duplicates(
            [a for a in self._open if a.commit.id in duplicates], duplicates
        )
        if self._open:
            self._doubt = error

    async def _tell_duplicates(self, group: Group, patterns: dict[str, Any]) -> None:
        """Tells a repeat, or an earlier attempt of ours that was written, from a conflict."""
        if not group:
            return
        ids = {"_id": {"$in": list(patterns)}}
        try:
            async with bounded():
                found = {one["_id"]: one for one in await self._collection.find(ids).to_list(None)}
        except PyMongoError:
            return
        for append in group:
            stored = found.get(append.commit.id)
            if stored is not None:
                own = self._doubt is not None and commit_from(stored) == append.commit
                self._close([append], Outcome.STORED if own else Outcome.REPEAT)
            elif "_id" not in patterns[append.commit.id]:
                self._close([append], Outcome.CONFLICT)

    def _give_up(self) -> None:
        for append in self._open:
            append.fail(
                OutcomeUnknown(
                    f"{append.commit.id}: MongoDB did not say within {SETTLE_WITHIN:.0f} s whether "
                    f"it was stored ({self._doubt!s:.300}); repeat it with the same id"
                )
            )

    def _close(self, group: Group, outcome: Outcome) -> None:
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

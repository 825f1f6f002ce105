"""Settles appends that were sent in one insert: each gets its own outcome, and the true one.

An error may say that nothing was stored only if the server said so, or if the log does not hold
the commit after the server had finished the insert.
"""

import asyncio
import time
from collections.abc import Collection as Many
from collections.abc import Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, NetworkTimeout, PyMongoError

from bus.common import clock
from bus.data.payload import Document
from bus.errors import InvalidMessage, OutcomeUnknown
from bus.stores.mongo.client import LATEST, Collection, bounded
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    code_name,
    is_about_content,
    is_answer,
    is_cut_short,
    is_refused,
    is_unclear,
    said,
    translated,
    trouble,
)
from bus.stores.mongo.fence import FENCED
from bus.stores.records import commit_from
from bus.stores.together.appender import SETTLE_WITHIN, Append, Appended, Group, Settles

ATTEMPT_WITHIN = 4.0
ALONE_WITHIN = 1.0
LOOK_WITHIN = 1.0
MOST_ALONE = 8
PAUSE = 0.1


class Settling(Settles):
    """Stores one group: tries until each of its appends is settled, or time is up."""

    def __init__(
        self, collection: Collection, group: Group, before: "Settling | None" = None
    ) -> None:
        """`before` has tried these appends already: its deadline and its doubts hold here too."""
        self._collection = collection
        super().__init__(group)
        self._within = ALONE_WITHIN if before else ATTEMPT_WITHIN
        self._deadline: float = before._deadline if before else time.monotonic() + SETTLE_WITHIN
        self._doubt: PyMongoError | None = before._doubt if before else None
        self._may_run_on: bool = before._may_run_on if before else False

    async def run(self) -> None:
        """Inserts the same documents repeatedly: their ids make that harmless."""
        await self._try_again_and_again()
        if self._open:
            await self._give_up()

    async def _try_again_and_again(self, turns: asyncio.Semaphore | None = None) -> None:
        """Tries until all are settled or time is up; each try takes one of the `turns`."""
        while self._open:
            if turns is None:
                await self._attempt()
            else:
                async with turns:
                    await self._attempt()
            if time.monotonic() + PAUSE > self._deadline:
                return
            if self._open:
                await asyncio.sleep(clock.jittered(PAUSE))

    async def _attempt(self) -> None:
        try:
            await self._insert()
        except BulkWriteError as error:
            await self._sort_out(error.details, error)
        except PyMongoError as error:
            await self._failed(error)
        else:
            self._close(self._open, Appended.STORED)

    async def _insert(self) -> None:
        seconds = max(min(self._within, self._deadline - time.monotonic()), 0.5)
        async with bounded(seconds):
            await self._collection.insert_many(
                [RawBSONDocument(append.data) for append in self._open], ordered=False
            )

    async def _failed(self, error: PyMongoError) -> None:
        """Handles an insert that failed as a whole."""
        if is_refused(error):
            await self._one_by_one(error)
        elif not is_unclear(error) and not self._doubt:
            self._fail(self._open, translated(error, writing=True))
        elif is_answer(error):
            await self._answered(error)
        else:
            await self._unanswered(error)

    async def _answered(self, error: PyMongoError) -> None:
        """Handles an error after which the server is done: what the log lacks was not stored."""
        self._doubt = error
        places = await self._places(self._open)
        if places is None:
            return
        self._settle_found(places)
        if not is_cut_short(getattr(error, "code", None)):
            self._fail_absent(places, error)

    async def _unanswered(self, error: PyMongoError) -> None:
        """Handles an insert that may still be carried out.

        If the server answers others, one append may hold up the insert (it waits for a lock, say):
        each is then inserted by itself, and those that wait for nothing are stored at once.
        """
        self._doubt = error
        self._may_run_on = True
        if len(self._open) > 1 and isinstance(error, NetworkTimeout):
            places = await self._places(self._open)
            if places is not None:
                self._settle_found(places)
                await self._each_alone()

    async def _each_alone(self) -> None:
        turns = asyncio.Semaphore(MOST_ALONE)
        alone = [Settling(self._collection, [append], self) for append in self._open]
        try:
            await asyncio.gather(*(settling._try_again_and_again(turns) for settling in alone))
        finally:
            self._open = [append for settling in alone for append in settling._open]

    async def _one_by_one(self, error: PyMongoError) -> None:
        """Inserts each append by itself, because one document (nested too deeply, say) has made the
        server refuse them all."""
        if len(self._open) == 1:
            self._fail(self._open, InvalidMessage(f"MongoDB refuses the commit: {said(error)}"))
        for append in list(self._open):
            await Settling(self._collection, [append], self).run()
            self._open.remove(append)

    async def _sort_out(self, details: Any, error: BulkWriteError) -> None:
        """Settles what the answer is clear about; the rest stays open for the next attempt."""
        failed = {failure["index"]: failure for failure in details["writeErrors"]}
        group = list(self._open)
        # A write without error is stored, but after a write concern error perhaps not on a
        # majority: an election could still take back what its caller was told.
        durable = not details["writeConcernErrors"]
        if durable:
            self._close([a for i, a in enumerate(group) if i not in failed], Appended.STORED)
        duplicates = {}
        fenced: list[Append] = []
        for index, failure in failed.items():
            code = failure["code"]
            if code == FENCED:
                # It comes before the look at ids and places: this may be a repeat.
                fenced.append(group[index])
                duplicates[group[index].commit.id] = {"_id": 1}
            elif code == DUPLICATE_KEY:
                # An id or a place is taken: perhaps by an earlier try of this very append.
                duplicates[group[index].commit.id] = failure.get("keyPattern", {})
            elif is_about_content(code):
                refusal = InvalidMessage(f"MongoDB refuses the commit: {code_name(code)}")
                self._fail([group[index]], refusal)
            elif not is_cut_short(code) and not self._doubt:
                # With a doubt, an earlier try may have stored it: the error would be wrong.
                self._fail([group[index]], trouble(code_name(code)))
        if self._open:
            await self._ask_log(duplicates, fenced, error)

    async def _ask_log(
        self, duplicates: dict[str, Any], fenced: Group, error: BulkWriteError
    ) -> None:
        """Distinguishes a repeat, an earlier try that was stored, a conflict, and a fence."""
        self._doubt, earlier = error, self._doubt
        places = await self._places(self._open)
        if places is None:
            return
        # In a first try, a duplicate id is a repeat, even of an equal commit. After a try in doubt,
        # an equal commit is that try's: to call it a repeat would be wrong.
        self._settle_found(places, repeats=() if earlier else duplicates)
        # A conflict is certain only if the place was taken, and not the id, and the log holds
        # nothing under the id; all others stay open.
        taken = [
            append
            for append in self._open
            if append.commit.id not in places
            and "_id" not in duplicates.get(append.commit.id, {"_id": 1})
        ]
        self._close(taken, Appended.CONFLICT)
        if not self._may_run_on:  # else an earlier try may have been stored, and not be seen yet
            absent = [append for append in fenced if append.commit.id not in places]
            self._close(absent, Appended.FENCED)

    async def _places(self, group: Group) -> dict[str, Document | None] | None:
        """Returns what the log holds of these appends, by id; None if the log cannot be read.

        The value is None for a commit that no majority holds yet: it can neither be confirmed nor
        called absent.
        """
        ids = [append.commit.id for append in group]
        latest = self._collection.with_options(read_concern=LATEST)
        try:
            async with bounded(LOOK_WITHIN):
                places = dict.fromkeys(row["_id"] for row in await _find(latest, ids))
                if places:
                    places |= {row["_id"]: row for row in await _find(self._collection, ids)}
                return places
        except PyMongoError:
            return None

    def _settle_found(self, places: dict[str, Document | None], repeats: Many[str] = ()) -> None:
        """Settles what a majority holds: a try of this append was stored, or it is a repeat."""
        for append in list(self._open):
            if stored := places.get(append.commit.id):
                own = append.commit.id not in repeats and commit_from(stored) == append.commit
                self._close([append], Appended.STORED if own else Appended.REPEAT)

    def _fail_absent(self, places: dict[str, Document | None], error: Exception) -> None:
        """Fails what the log does not hold although the server is done: it was not stored."""
        if not self._may_run_on:  # else an earlier try may store it yet
            absent = [append for append in self._open if append.commit.id not in places]
            self._fail(absent, translated(error, writing=False))

    async def _give_up(self) -> None:
        """Looks into the log once more, if the server answers, and fails the rest as unknown."""
        why = said(self._doubt) if self._doubt else "no answer"
        if self._doubt is not None and is_answer(self._doubt):
            places = await self._places(self._open)
            if places is not None:
                self._settle_found(places)
                self._fail_absent(places, self._doubt)
        for append in self._open:
            append.fail(
                OutcomeUnknown(
                    f"{append.commit.id}: MongoDB did not say within {SETTLE_WITHIN:.0f} s whether "
                    f"it was stored ({why}); repeat it with the same id"
                )
            )


async def _find(collection: Collection, ids: Sequence[str]) -> list[Document]:
    found: list[Document] = await collection.find({"_id": {"$in": list(ids)}}).to_list(None)
    return found

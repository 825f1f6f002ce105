"""Replay: fills a new collection from the log, folding each stream in memory.

For projections whose documents, or rows, are each fed by one stream: a stream's whole history
becomes one document, and many of these are inserted at once. Streams that cannot be folded here
(a handler fails, or only the database can apply an update) are left to the projector, one by one.
"""

from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, cast

from bus.codec import Unread, envelopes_of
from bus.common.batches import ahead
from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import OutcomeUnknown, ProjectionError, Unavailable, UnknownMessage
from bus.read.projector import Projector
from bus.stores.collections import (
    Changes,
    Collections,
    LoadsInBulk,
    LoadsStreams,
    ReadUnit,
    Write,
    able,
)
from bus.stores.documents.applying import apply
from bus.stores.documents.updates import HIDDEN, VERSION, checked
from bus.stores.event_log import Commit, ReadableLog, Streams

AT_ONCE = 1000
"""Documents in one insert."""
PAGES = 4
"""Pages of the log in one insert: documents may hold all that is in the pages."""

NOTHING = cast(ReadUnit, None)
"""Handlers of these projections do not ask for documents."""


class Reached(NamedTuple):
    """How far a share of the log is replayed: up to a place in it (a stream, a time), and how many
    commits."""

    place: str
    commits: int


Progress = Callable[[Reached], Awaitable[None]]


class _Folding:
    """A stream that is being folded into a document."""

    def __init__(self, stream: str, *, aside: bool) -> None:
        self.stream = stream
        self.version = 0
        self.document: Document | None = None
        self.writes: list[Write] = []
        """What makes the row, where a sink has rows."""
        self.aside = aside
        """It is left to the projector."""
        self.unread: Counter[str] = Counter()

    @property
    def result(self) -> Document:
        """The document with its version, or a hidden placeholder that holds the version."""
        shown = {HIDDEN: True} if self.document is None else self.document
        return {"_id": key_of(self.stream), **shown, VERSION: self.version}


_Folded = tuple[list[_Folding], int]
"""Completely folded streams, and how many commits are replayed with them."""


class Replay:
    """Replays a part of a category's streams into one collection."""

    def __init__(self, projector: Projector, log: ReadableLog, collections: Collections) -> None:
        self._projector = projector
        self._projection = projector.projection
        self._log = log
        self._bulk: LoadsInBulk | None = able(collections, LoadsInBulk, projector.target)
        """If it is None, the projector writes each stream in transactions."""
        self._rows: LoadsStreams | None = able(collections, LoadsStreams, projector.target)
        self._registry = projector.projection.registry()

    async def run(self, reached: Reached, until: str, progress: Progress) -> None:
        """Replays streams after `reached`, up to and including the stream `until` ("": the last).

        Calls `progress` after each insert. Raises: StoreUnavailable, OutcomeUnknown (replaying
        the same again is safe).
        """
        folded = self._folded(reached, until)
        async with aclosing(folded), aclosing(ahead(folded)) as coming:
            async for done, count in coming:
                await self._store_all(done)
                await progress(Reached(done[-1].stream, count))

    async def _folded(self, reached: Reached, until: str) -> AsyncGenerator[_Folded, None]:
        """Yields folded streams, some at a time; while these are stored, the next are folded."""
        (category,) = self._projection.categories
        done: list[_Folding] = []
        current: _Folding | None = None
        count, pages = reached.commits, 0
        scan = self._log.scan_streams(category, reached.place, until)
        async with aclosing(ahead(scan)) as coming:
            async for page in coming:
                pages += 1
                for stream, commits in groupby(page, attrgetter("stream")):
                    if current is None or current.stream != stream:
                        done += [current] if current else []
                        current = _Folding(stream, aside=not (self._bulk or self._rows))
                    count += await self._fold(current, commits)
                if len(done) >= AT_ONCE or (done and pages >= PAGES):
                    yield done, count
                    done, pages = [], 0
        done += [current] if current else []
        if done:
            yield done, count

    async def _fold(self, folding: _Folding, commits: Iterable[Commit]) -> int:
        """Folds some of a stream's commits, unless it is left aside; returns how many there are."""
        count = 0
        for commit in commits:
            count += 1
            if not folding.aside:
                await self._fold_one(folding, commit)
        return count

    async def _fold_one(self, folding: _Folding, commit: Commit) -> None:
        try:
            if commit.first > folding.version + 1:
                raise ProjectionError("the log lacks what precedes this event")
            for envelope in envelopes_of(commit, self._registry, after=folding.version):
                if type(envelope.message) is Unread:
                    await self._pass_over(folding, envelope.message.name)
                else:
                    self._take(folding, await self._projection.changes(envelope, NOTHING))
                folding.version = envelope.version
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception:  # the projector will meet it again, and say what is wrong
            folding.aside = True

    async def _pass_over(self, folding: _Folding, name: str) -> None:
        if await self._projector.lacks(name):
            raise UnknownMessage(name)
        folding.unread[name] += 1

    def _take(self, folding: _Folding, writes: Sequence[Write]) -> None:
        if self._rows:
            folding.writes += writes
            return
        for write in writes:
            folding.document = self._applied(folding.document, write.update)

    def _applied(self, document: Document | None, update: Any) -> Document | None:
        return None if update is None else apply(document, checked("", update))

    async def _store_all(self, done: Sequence[_Folding]) -> None:
        folded = [folding for folding in done if not folding.aside]
        aside = [folding.stream for folding in done if folding.aside]
        try:
            aside += await self._stored(folded) if folded else ()
        except ProjectionError:  # it does not say which of them was refused
            aside = [folding.stream for folding in done]
        else:
            for folding in folded:
                self._projector.count_unread(folding.unread)
        if aside:
            await self._projector.apply_streams(aside)

    async def _stored(self, folded: Sequence[_Folding]) -> Collection[str]:
        """Stores what was folded; returns the streams that are left to the projector."""
        target = self._projector.target
        if self._rows:
            writes = [write for folding in folded for write in folding.writes]
            versions = {folding.stream: folding.version for folding in folded}
            return await self._rows.load_streams(target, Changes(writes, versions))
        if self._bulk:
            await self._bulk.insert(target, [folding.result for folding in folded])
        return ()


class LogUpTo(Streams):
    """A log that ends at a version of each stream."""

    def __init__(self, event_log: ReadableLog, heads: Mapping[str, int]) -> None:
        self._log = event_log
        self._heads = heads

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        """Returns what `EventLog.read_durable` does, up to the stream's version."""
        head = self._heads.get(stream, 0)
        commits = await self._log.read_durable(stream, after, limit)
        return [
            commit._replace(events=commit.events[: head - commit.first + 1])
            for commit in commits
            if commit.first <= head
        ]

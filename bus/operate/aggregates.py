"""Aggregates: compares the states of those that are stored by their state with the log, stores
what is missing, and drops them. Commands may come in meanwhile: a newer state stays."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from bus.assembly.runtime import OnOpenBus
from bus.common.fingerprint import reason_of
from bus.data.ids import key_of
from bus.data.payload import in_order
from bus.errors import BusError, ConfigurationError
from bus.stores.control import change_note
from bus.stores.event_log import Commit, Snapshot
from bus.write import snapshots
from bus.write.aggregate import Aggregate
from bus.write.repository import apply, catch_up

AT_ONCE = 20
"""So many aggregates are held at a time, each perhaps of megabytes."""
PAGE = 500
MOST_TOLD = 1000
NOTE_EVERY = 2000
CLOCKS_APART = timedelta(minutes=1)
TRIES = 5
ABSENT = "absent"

Report = Callable[[int, int], object]
"""Is called with how many commits are done, and of how many."""


class StateDifference(NamedTuple):
    """How a stream's state is not what its events make.

    `kind` is "missing", "behind" (older than its events), "differs", "ahead" (newer than its
    events), "strange" (there are no events) or "unreadable" (its events, or the state that they
    make). `fields` have what is stored and what the events make; `reason` says why it is
    unreadable.
    """

    stream: str
    kind: str
    version: int
    fields: Mapping[str, tuple[Any, Any]] = {}
    reason: str = ""


class CheckedStates(NamedTuple):
    """What a comparison of a class's states with the log found. `differences` are the first 1,000
    of `differing`; `complete` says that aggregates can be found by their fields."""

    aggregate: str
    streams: int
    differing: int
    differences: tuple[StateDifference, ...]
    complete: bool

    @property
    def is_right(self) -> bool:
        """Whether all is as it should be."""
        return self.complete and not self.differing


class StoredStates(NamedTuple):
    """What storing a class's states did: how many of its `streams` had no state, or another one,
    and have it now (`stored`).

    `behind` were written meanwhile without their states, by an older release; `differences` are the
    first 1,000 of those that could not be stored. If there are any of either, the states are not
    `complete`, and aggregates cannot be found by their fields.
    """

    aggregate: str
    streams: int
    stored: int
    behind: int
    differences: tuple[StateDifference, ...]
    complete: bool


class Aggregates(OnOpenBus):
    """Looks after the states of aggregates that are stored by their state. The bus must be open.

        async with bus.looking():
            await Aggregates(bus).store("Job")

    Raises: ConfigurationError (there is no such aggregate, or it is stored otherwise),
    StoreUnavailable (run it again: it goes on where it was).
    """

    async def check(self, name: str, *, report: Report | None = None) -> CheckedStates:
        """Compares each state with what the events make. Changes nothing."""
        kind, told = self._by_state(name), _Told()
        streams = 0
        async for batch in self._batches(kind, "", _Progress(0, await self._count(kind), report)):
            streams += len(batch)
            told.add(await self._compared(kind, batch))
        async for page in self._strange(kind):
            told.add(page)
        complete = await snapshots.is_complete(self._runtime.event_log, kind)
        return CheckedStates(
            aggregate=kind.__name__,
            streams=streams,
            differing=told.count,
            differences=tuple(told.first),
            complete=complete,
        )

    async def store(self, name: str, *, report: Report | None = None) -> StoredStates:
        """Stores each state that is missing or differs, and notes that they are complete.

        Every process must run a release with `stored="state"` before: what an older one stores
        meanwhile is told, and then they are not complete.
        """
        kind, log = self._by_state(name), self._runtime.event_log
        await log.prepare_states(kind.category, kind.storing.indexes)
        run = await self._begun(kind)
        told, progress = _Told(), _Progress(run.commits, await self._count(kind), report)
        noted = run.streams
        async for batch in self._batches(kind, run.after, progress):
            done, left = await self._mended(kind, batch)
            told.add(left)
            run = run._replace(
                after=batch[-1].stream,
                streams=run.streams + len(batch),
                stored=run.stored + done,
                commits=progress.done,
            )
            if run.streams - noted >= NOTE_EVERY:
                noted = run.streams
                await self._note(kind, run)
        behind = await self._behind(kind, run.began - CLOCKS_APART)
        async for page in self._strange(kind):
            told.add(page)
        complete = not told.count and not behind
        if complete:
            complete = await snapshots.note_complete(log, kind, run.turn)
        await self._note(kind, None)
        return StoredStates(
            aggregate=kind.__name__,
            streams=run.streams,
            stored=run.stored,
            behind=behind,
            differences=tuple(told.first),
            complete=complete,
        )

    async def drop_states(self, name: str) -> None:
        """Drops all states of an aggregate, however it is stored now; its events remain."""
        kind = self._named(name)
        await snapshots.forget(self._runtime.event_log, kind)
        await self._note(kind, None)

    # --- one class -----------------------------------------------------------------------------

    def _named(self, name: str) -> type[Aggregate]:
        aggregates = self._runtime.aggregates
        for aggregate in aggregates:
            if name in (aggregate.__name__, aggregate.category):
                return aggregate
        known = ", ".join(aggregate.__name__ for aggregate in aggregates) or "none"
        raise ConfigurationError(
            f"{self._runtime.service!r} has no aggregate {name!r} that a handler takes; it has "
            f"{known}"
        )

    def _by_state(self, name: str) -> type[Aggregate]:
        kind = self._named(name)
        if kind.storing.by_state:
            return kind
        raise ConfigurationError(
            f"{kind.__name__} is stored by its events, and has no states; write class "
            f'{kind.__name__}(Aggregate, stored="state") first'
        )

    async def _count(self, kind: type[Aggregate]) -> int:
        return await self._runtime.event_log.count([kind.category])

    async def _begun(self, kind: type[Aggregate]) -> "_Run":
        """Returns the run to go on with: an earlier one that was cut short, or a new one."""
        log = self._runtime.event_log
        turn, schema = await snapshots.begun(log, kind), kind.storing.schema
        note = (await self._runtime.control.note(_key(kind))).value
        if (note.get("turn"), note.get("schema")) == (turn, schema):
            return _Run(**{**note, "began": datetime.fromisoformat(note["began"])})
        return _Run(turn, schema, log.now())

    async def _note(self, kind: type[Aggregate], run: "_Run | None") -> None:
        value = {**run._asdict(), "began": run.began.isoformat()} if run else {}
        await change_note(self._runtime.control, _key(kind), lambda _: value)

    # --- what events make ----------------------------------------------------------------------

    async def _batches(
        self, kind: type[Aggregate], after: str, progress: "_Progress"
    ) -> AsyncIterator[list["_Made"]]:
        """Yields what events make of each stream after `after`, in order, a few at a time."""
        batch: list[_Made] = []
        async for page in self._runtime.event_log.scan_streams(kind.category, after):
            for commit in page:
                if not batch or batch[-1].stream != commit.stream:
                    if len(batch) == AT_ONCE:
                        yield batch
                        batch = []
                        progress.tell()
                    batch.append(_Made(kind, commit.stream))
                batch[-1].add(commit)
                progress.done += 1
        if batch:
            yield batch
        progress.end()

    async def _compared(
        self, kind: type[Aggregate], batch: Sequence["_Made"]
    ) -> list[StateDifference]:
        found = await asyncio.gather(*(self._difference(kind, made) for made in batch))
        return [difference for difference in found if difference]

    async def _mended(
        self, kind: type[Aggregate], batch: Sequence["_Made"]
    ) -> tuple[int, list[StateDifference]]:
        """Stores what differs; returns how many states, and what could not be stored."""
        by_stream = {made.stream: made for made in batch}
        found = await self._compared(kind, batch)
        left = [one for one in found if one.kind in ("ahead", "unreadable")]
        states = [by_stream[one.stream].aggregate.to_snapshot() for one in found if one not in left]
        await asyncio.gather(*map(self._runtime.event_log.save_state, states))
        return len(states), left

    async def _difference(self, kind: type[Aggregate], made: "_Made") -> StateDifference | None:
        """Compares a state with what the events make, as it is at one version of its stream."""
        log, aggregate = self._runtime.event_log, made.aggregate
        for _ in range(TRIES):
            state = await log.state(made.stream)
            try:
                if made.error:
                    raise made.error
                if state is not None and state.version > aggregate.version:
                    await catch_up(aggregate, log)
                own = aggregate.to_snapshot()
            except BusError as error:
                return StateDifference(
                    made.stream, "unreadable", aggregate.version, reason=reason_of(error)
                )
            if state is None or state.version >= own.version:
                return _difference(own, state)
            if state.version < made.version:
                return StateDifference(made.stream, "behind", state.version)
        return None  # it changes all the time, and its state with it

    async def _behind(self, kind: type[Aggregate], since: datetime) -> int:
        """Stores the states of streams that were written since then without them; returns how
        many."""
        behind, heads = 0, dict[str, int]()
        async for commit in self._runtime.event_log.arrived([kind.category], since):
            heads[commit.stream] = max(commit.last, heads.get(commit.stream, 0))
            if len(heads) == PAGE:
                behind += await self._caught_up(kind, heads)
                heads = {}
        return behind + await self._caught_up(kind, heads)

    async def _caught_up(self, kind: type[Aggregate], heads: Mapping[str, int]) -> int:
        log = self._runtime.event_log
        states = await asyncio.gather(*map(log.state, heads))
        behind = 0
        for (stream, head), state in zip(heads.items(), states, strict=True):
            if state is None or state.version < head:
                aggregate = kind(key_of(stream))
                await catch_up(aggregate, log)
                await log.save_state(aggregate.to_snapshot())
                behind += 1
        return behind

    async def _strange(self, kind: type[Aggregate]) -> AsyncIterator[list[StateDifference]]:
        """Yields states of which the log knows nothing, page by page."""
        log, after = self._runtime.event_log, ""
        while page := await log.states(kind.category, {}, PAGE, after=after):
            heads = await log.heads([state.stream for state in page])
            yield [
                StateDifference(state.stream, "strange", state.version)
                for state in page
                if state.stream not in heads
            ]
            after = page[-1].stream


class _Run(NamedTuple):
    """How far a run has come: it goes on after a stream."""

    turn: int
    schema: int
    began: datetime
    after: str = ""
    streams: int = 0
    stored: int = 0
    commits: int = 0


class _Progress:
    """Counts commits, and tells of them."""

    def __init__(self, done: int, of: int, report: Report | None) -> None:
        self.done = done
        self._of = of
        self._report = report or (lambda done, of: None)

    def tell(self) -> None:
        self._report(min(self.done, self._of - 1), self._of)

    def end(self) -> None:
        self._report(self._of, self._of)


class _Told:
    """Counts differences, and keeps the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[StateDifference] = []

    def add(self, found: Sequence[StateDifference]) -> None:
        self.count += len(found)
        self.first += found[: MOST_TOLD - len(self.first)]


class _Made:
    """What the events of a stream make, or why they make nothing."""

    def __init__(self, kind: type[Aggregate], stream: str) -> None:
        self.aggregate = kind(key_of(stream))
        self.stream = stream
        self.version = 0
        self.error: BusError | None = None

    def add(self, commit: Commit) -> None:
        if self.error is None:
            try:
                numbered = list(enumerate(commit.events, commit.first))
                apply(self.aggregate, numbered, type(self.aggregate).events())
            except BusError as error:
                self.error = error
        self.version = commit.last


def _difference(own: Snapshot, state: Snapshot | None) -> StateDifference | None:
    if state is None:
        return StateDifference(own.stream, "missing", own.version)
    if state.version > own.version:
        return StateDifference(own.stream, "ahead", state.version)
    fields = {
        name: (state.state.get(name, ABSENT), own.state.get(name, ABSENT))
        for name in dict.fromkeys(chain(own.state, state.state))
    }
    differing = {name: pair for name, pair in fields.items() if not _same(*pair)}
    if differing or state.shape != own.shape:
        return StateDifference(own.stream, "differs", state.version, differing)
    return None


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or in_order(one) == in_order(other))


def _key(kind: type[Aggregate]) -> str:
    return f"states/{kind.category}"

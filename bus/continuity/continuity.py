"""Continuity: detects that the database does not go on from what it held.

After a backup is restored or a collection is dropped, nothing fails by itself: events would be
applied twice, others dropped as duplicates, and nobody would notice. So a record of what there is,
with the id of a recent commit, is kept in two places and compared repeatedly. What does not go on
stands still until it is recovered.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from bus.common import clock
from bus.data.payload import Document
from bus.errors import Discontinued
from bus.observe.health import Check
from bus.observe.log import Logger
from bus.observe.loops import Loops
from bus.read.projection import Projection
from bus.rebuild.catalogue import KNOWN_FOR, Catalogue
from bus.signing import FED, Signing
from bus.stores.collections import UNKNOWN, Collections
from bus.stores.control import Control, change_note
from bus.stores.event_log import EventLog
from bus.transports.base import Delivery, Frame

RECORD = "commits/continuity"
"""The key of the note that holds the record; its copy among the checkpoints is the seal."""
OWN = ("checkpoints", "projections", "followed")
"""Besides the log's own."""
EVERYTHING = ("commits", "projections")
"""Without these, nothing that is derived from the log can be right."""

LOOK_EVERY = 2.0
TURN_EVERY = 10
"""Seconds between two records: a loss of the newest events, up to that, is not detected."""
FIRST = 5.0
BATCH = 100
BATCH_EVERY = 0.1
ONE_EVERY = 1.0
"""Of a queue's events, ten batches a second are looked up in its first seconds, then one event."""
AGAIN_AFTER = 1.0

log = Logger("bus.continuity")


class Vouch(Protocol):
    """Looks up in the log some of what arrived in a queue."""

    async def __call__(self, queue: str, deliveries: Sequence[Delivery]) -> None: ...


class Record(NamedTuple):
    """What was there at a `turn`, a number that only grows (the time, in seconds): the identities
    of `collections`, and a commit. `before` is a turn that was sealed before it; `broken` says, by
    name, what is to be recovered."""

    turn: int = 0
    before: int = 0
    collections: Mapping[str, str] = {}
    commit: str = ""
    broken: Mapping[str, str] = {}

    def document(self) -> Document:
        """Returns the record as JSON types; pairs, because names may not be valid field names."""
        rest = {"collections": list(self.collections.items()), "broken": list(self.broken.items())}
        return {**self._asdict(), **rest}


def record_from(document: Document) -> Record:
    """Returns the record that a document holds."""
    if "turn" not in document:
        return Record()
    collections, broken = dict(document["collections"]), dict(document["broken"])
    turn, before = document["turn"], document["before"]
    return Record(
        turn=turn, before=before, collections=collections, commit=document["commit"], broken=broken
    )


class Continuity:
    """What one process knows of the database's continuity."""

    def __init__(
        self,
        event_log: EventLog,
        collections: Collections,
        control: Control,
        catalogue: Catalogue,
        projections: Sequence[Projection[Any]],
        signing: Signing,
        loops: Loops,
    ) -> None:
        self._log = event_log
        self._collections = collections
        self._control = control
        self._catalogue = catalogue
        self._projections = projections
        self._signing = signing
        self._loops = loops
        self._one_by_one = asyncio.Lock()
        """Without it, what was read before another turn was noted here would look older."""
        self._turn = self._sealed = 0
        self._notes = True
        self._refusal: str | None = None
        self.broken: Mapping[str, str] = {}
        """Why each collection is to be recovered, by its name."""
        self._vouched: dict[str, tuple[float, float]] = {}

    @property
    def checks(self) -> list[Check]:
        """The checks for health."""
        contents = Check("database contents", self.problem)
        return [Check("event log", self.refusal, "ready"), contents]

    async def open(self, *, notes: bool = True) -> None:
        """Compares for the first time, before any collection is fed; without `notes`, it writes
        nothing, for a program that only looks. Raises: StoreUnavailable."""
        self._notes = notes
        await self.look()

    async def run(self) -> None:
        """Compares every LOOK_EVERY seconds, about, until cancelled."""
        while True:
            await asyncio.sleep(clock.jittered(LOOK_EVERY))
            await self._loops.turn("continuity", self.look, None)

    def check(self, *names: str) -> None:
        """Raises: Discontinued if one of these names, or of EVERYTHING, is to be recovered."""
        for name in (*EVERYTHING, *names) if self.broken else ():
            if name in self.broken:
                raise Discontinued(self.broken[name])

    async def problem(self) -> str | None:
        """Returns what is broken, with the command that puts it right, or None."""
        if not self.broken:
            return None
        what = "; ".join(self.broken.values())
        return (
            f"{what}. What is concerned stands still until `bus events recover APP` has put it "
            f"right (with --dry-run it says what it would do)"
        )

    async def refusal(self) -> str | None:
        """Returns why the log stores nothing, or None if it does."""
        return self._refusal

    async def look(self) -> None:
        """Compares what there is with the record. Raises: StoreUnavailable, OutcomeUnknown."""
        async with self._one_by_one:
            await self._look()

    async def _look(self) -> None:
        self._refusal = await self._log.examine() if self._notes else None
        seal, record = await self._read()
        is_due = self._notes and self._control.now().timestamp() >= record.turn + TURN_EVERY
        own = {*self._own, *await self._known_collections()} if is_due else set()
        here = await self.identities({*own, *record.collections, *seal.collections})
        found = await self._compared(record, seal, here)
        if found and await self._log.fenced():
            return  # the log goes on elsewhere, and what differs from this one may be right there
        self._sealed = max(self._sealed, seal.turn)
        if self._notes and found.keys() - record.broken.keys():
            await self._note_broken(found, as_of=record.turn)
        elif not found and is_due:
            if seal.turn < record.turn:  # the process that wrote the record did not seal it
                await self._seal(record)
            await self._note_turn(here)
        broken = {**found, **record.broken}
        if self.broken.keys() - broken.keys():
            await self._signing.open(makes=self._notes)  # recovered: a new epoch has begun
        self._turn = max(self._turn, record.turn)
        self.broken = broken

    async def _read(self) -> tuple[Record, Record]:
        """Returns the seal and the record that it is a copy of (briefly an earlier one, because the
        record is written first). Reads again what looks like a loss that is not noted yet."""
        seal, record = await self._read_once()
        is_noted = not record.broken.keys().isdisjoint({*EVERYTHING, "checkpoints"})
        if is_noted or self._goes_on(seal, record):
            return seal, record
        await self._wait_for_a_majority()
        return await self._read_once()

    async def _wait_for_a_majority(self) -> None:
        """Waits, and writes something: before a majority has it, a new primary may know less than
        the majority holds; and a former primary cannot get a majority for it."""
        await asyncio.sleep(AGAIN_AFTER)
        if self._notes:
            await self._control.lease(RECORD, RECORD, 0)

    async def _read_once(self) -> tuple[Record, Record]:
        seal = record_from(await self._collections.seal())
        return seal, record_from((await self._control.note(RECORD)).value)

    def _goes_on(self, seal: Record, record: Record) -> bool:
        is_sealed = seal.turn >= max(record.before, self._sealed)
        return is_sealed and record.turn >= max(seal.turn, self._turn)

    async def _compared(
        self, record: Record, seal: Record, here: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Returns what does not go on, by name, with a description for people."""
        if not record.turn and not seal.turn:
            return {}  # nothing was recorded yet
        found = {
            name: f"the collection {name!r} was dropped, or put in place anew"
            for name, identity in (record if record.turn else seal).collections.items()
            if here.get(name) not in (identity, UNKNOWN) and await self._counts(name)
        }
        if not record.turn or record.turn < seal.turn:
            found["projections"] = "the collection 'projections' was dropped, or is an older one"
        elif seal.turn < max(record.before, self._sealed):
            found["checkpoints"] = "the collection 'checkpoints' was dropped, or is an older one"
        if 0 < record.turn < self._turn:
            found["commits"] = "the whole database is an older one: a backup was restored"
        commit = record.commit if record.turn else seal.commit
        if commit and not await self._log.held([commit]):
            found["commits"] = f"the log is older than what was made of it: it lacks {commit}"
        return found

    @property
    def _own(self) -> set[str]:
        return {*OWN, *self._log.collections}

    async def _counts(self, name: str) -> bool:
        return name in self._own or name in await self._known_collections(within=0.0)

    async def _known_collections(self, within: float = KNOWN_FOR) -> set[str]:
        """Returns the names of projections' collections that are read or kept up to date."""
        return {
            generation.collection
            for projection in self._projections
            for generation in (await self._catalogue.lineage(projection, within)).in_use(
                projection.version
            )
        }

    async def _note_broken(self, found: Mapping[str, str], as_of: int | None = None) -> bool:
        """Adds to the record what is broken, for every process to know, after a restart too.

        With `as_of`, only to the record of that turn; returns whether it is noted.
        """
        is_noted = True

        def broken(document: Document) -> Document:
            nonlocal is_noted
            record = record_from(document)
            is_noted = as_of in (None, record.turn)
            noted = record._replace(broken={**found, **record.broken}).document()
            return noted if is_noted else document

        await change_note(self._control, RECORD, broken)
        for name, what in found.items() if is_noted else ():
            log.error("database_discontinued", part=name, reason=what)
        return is_noted

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns the identities of collections (all, or these) in the service's database and in
        the place for documents, which may be the same; UNKNOWN for those that another release keeps
        in another technology, where this code cannot look. Raises: StoreUnavailable."""
        own = await self._control.identities(names)
        elsewhere = await self._elsewhere()
        unknown = elsewhere if names is None else elsewhere & set(names)
        return dict.fromkeys(unknown, UNKNOWN) | own | await self._collections.identities(names)

    async def _elsewhere(self) -> set[str]:
        return {
            generation.collection
            for projection in self._projections
            for generation in (await self._catalogue.lineage(projection, KNOWN_FOR)).generations
            if generation.place != projection.target().place
        }

    async def note_turn(self, here: Mapping[str, str], broken: Mapping[str, str]) -> None:
        """Records what there is, and what of it is broken."""
        async with self._one_by_one:
            await self._note_turn(here, broken)

    async def _note_turn(
        self, here: Mapping[str, str], broken: Mapping[str, str] | None = None
    ) -> None:
        """Records a turn; without `broken`, keeps what is recorded as broken."""
        names = {*self._own, *await self._known_collections()} & here.keys()
        commit = await self._log.newest()
        now = int(self._control.now().timestamp())

        def turned(document: Document) -> Document:
            known = record_from(document)
            last = known.turn
            turn = max(last + 1, self._turn + 1, self._sealed + 1, now)
            found = {name: here[name] for name in names if here[name] != UNKNOWN}
            kept = {**known.collections, **found}
            there = {name: identity for name, identity in kept.items() if name in names}
            # The last record may be another process's, which may never seal it: as `before`, it
            # would make the seal look like an older one.
            before, now_broken = min(last, self._sealed), known.broken if broken is None else broken
            return Record(
                turn=turn, before=before, collections=there, commit=commit, broken=now_broken
            ).document()

        await self._seal(record_from(await change_note(self._control, RECORD, turned)))

    async def _seal(self, record: Record) -> None:
        await self._collections.set_seal(record.document())
        self._sealed = max(self._sealed, record.turn)

    async def forget(self, collection: str) -> None:
        """Forgets a collection that was dropped on purpose: another one may get its name."""

        def without(document: Document) -> Document:
            if not document:
                return document
            record = record_from(document)
            broken = {name: what for name, what in record.broken.items() if name != collection}
            there = {name: id for name, id in record.collections.items() if name != collection}
            return record._replace(broken=broken, collections=there).document()

        await change_note(self._control, RECORD, without)

    async def vouch(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        """Checks that the log holds some of the delivered events that this service signed and
        stored. Raises: Discontinued (if not), StoreUnavailable.
        """
        self.check()
        now = time.monotonic()
        began, looked = self._vouched.get(queue, (now, 0.0))
        is_new = now < began + FIRST
        if now < looked + (BATCH_EVERY if is_new else ONE_EVERY):
            return
        self._vouched[queue] = began, now
        some = deliveries[-(BATCH if is_new else 1) :]
        own = [delivery.frame for delivery in some if FED not in delivery.frame.headers]
        signed = [frame for frame in own if self._signing.verify(frame)]
        missing = await self._missing(signed)
        if missing:
            await self._wait_for_a_majority()
            if reason := await self._log.fenced():
                raise Discontinued(reason)
            await self._note_missing(missing)

    async def _note_missing(self, frames: Sequence[Frame]) -> None:
        """Notes that the log lacks these events, if it still does, and if they still count: a
        recovery may have begun meanwhile, after which nobody believes what was signed before it.
        Raises: Discontinued."""
        turn = record_from((await self._control.note(RECORD)).value).turn
        await self._signing.open(makes=False)
        missing = await self._missing([frame for frame in frames if self._signing.verify(frame)])
        if missing:
            what = f"the log lacks what its queues tell of: {missing[0].id}, for one"
            if await self._note_broken({"commits": what}, as_of=turn):
                self.broken = {**self.broken, "commits": what}
            raise Discontinued(what)

    async def _missing(self, frames: Collection[Frame]) -> list[Frame]:
        """Returns the frames whose commit the log lacks; ignores ids that name no commit."""
        commits = {frame.id: frame.id.rpartition(":")[0] for frame in frames}
        ids = sorted(set(commits.values()) - {""})
        held = await self._log.held(ids) if ids else set()
        return [frame for frame in frames if commits[frame.id] and commits[frame.id] not in held]

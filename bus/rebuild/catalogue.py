"""Catalogue: which collections a service's projections have at present, as one process knows it.

Readers ask it where to read; it asks the store again when its knowledge is a second old.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from bus.common import clock
from bus.common.tasks import apart, end, together
from bus.data.payload import Document
from bus.errors import ConfigurationError, NotBuilt, StoreUnavailable
from bus.observe.log import Logger
from bus.read.foreign import History
from bus.read.projection import Projection
from bus.rebuild.generations import Generation, Lineage, lineage_from
from bus.rebuild.handled import note_handled
from bus.stores.collections import (
    Browsable,
    Collections,
    StoredDocuments,
    Target,
    able,
)
from bus.stores.control import Control, change_note
from bus.stores.documents.updates import moved
from bus.stores.event_log import ReadableLog
from bus.stores.grouping import Grouping
from bus.stores.sink import kept_elsewhere

KNOWN_FOR = 1.0
"""Seconds. The collection that readers have left is kept up to date for longer than that."""

log = Logger("bus.catalogue")


class Catalogue:
    """The lineages of a service's projections."""

    def __init__(
        self,
        projections: Sequence[Projection[Any]],
        event_log: ReadableLog,
        collections: Collections,
        control: Control,
        history: History | None = None,
    ) -> None:
        self._projections = projections
        self._log = event_log
        self._collections = collections
        self._control = control
        self._history = history
        self._known: dict[str, tuple[Lineage, float]] = {}
        self._asking: dict[str, asyncio.Task[Lineage]] = {}
        self._problems: dict[str, list[str]] = {}
        self._refusals: dict[str, str] = {}
        self._unshown: dict[str, str | None] = {}
        self.learned = asyncio.Event()
        """Set once the queues are known."""

    async def open(self, *, begins: bool = True) -> None:
        """Learns the lineages, begins those of new projections, and creates their collections; with
        `begins`, calls `begin` for every projection.

        Raises: ConfigurationError (versions would move), StoreUnavailable.
        """
        await together(*map(self._learn, self._projections))
        for projection in self._projections:
            if begins or not self.known(projection).generations:
                await self.begin(projection)
        self.learned.set()
        await together(*map(self._prepare_at_first, self._projections))

    async def _prepare_at_first(self, projection: Projection[Any]) -> None:
        """Prepares, unless the place of its sink is away: a worker does so again until it is back,
        and all else works."""
        try:
            await self.prepare(projection)
        except StoreUnavailable as error:
            if projection.sink is None:
                raise
            log.warning("sink_unavailable", projection=projection.name, reason=str(error))

    async def look(self) -> None:
        """Learns the lineages, and changes nothing.

        Raises: ConfigurationError (versions would move), StoreUnavailable.
        """
        await together(*map(self._learn, self._projections))
        self.learned.set()

    async def _learn(self, projection: Projection[Any]) -> None:
        lineage = await self.change(projection, lambda known: known)
        own = lineage.latest(projection.version)
        declared = projection.target()
        if own and own.place != declared.place:
            raise _moved_elsewhere(own, declared)
        if own and own.versions_in_documents != declared.versions_in_documents:
            raise moved(own.target(projection.name, ()))

    async def begin(self, projection: Projection[Any]) -> bool:
        """Begins a collection if this version of the code has none; divides those that it has into
        as many queues as are declared.

        Only a worker of this version should call it: until there is one, what other releases fill
        stays as it is. Returns whether the queues have changed. Raises: StoreUnavailable.
        """
        before = await self.change(projection, lambda known: known)
        is_new = not before.generations and await self._nothing_happened(projection)
        is_lost = not before.generations and not is_new
        left = set(await self._collections.identities()) if is_lost else set()
        after = await self.change(
            projection, lambda known: _divided(_begun(known, projection, is_new, left), projection)
        )
        return after.generations != before.generations

    async def prepare(self, projection: Projection[Any], *, serves: bool = False) -> None:
        """Creates the known collections that this version of the code feeds, and notes for other
        releases which events it handles; `serves` says that a worker calls it. What cannot be
        created as declared is a problem of this projection alone."""
        fed = self.known(projection).fed_by(projection.version)
        problems = [
            problem
            for generation in fed
            for problem in await self._prepared(projection, generation)
        ]
        if problems and problems != self._problems.get(projection.name):
            log.error("collections_mismatched", projection=projection.name, problems=problems)
        self._problems[projection.name] = problems
        for generation in fed:
            await note_handled(self._control, projection, generation.collection, serves=serves)

    async def _prepared(self, projection: Projection[Any], generation: Generation) -> Sequence[str]:
        try:
            problems = await self._collections.prepare(self.target_of(projection, generation))
        except ConfigurationError as error:
            if projection.sink is None:
                raise
            self._refusals[generation.collection] = str(error)
            return [str(error)]  # what else the service does does not stand on it
        self._refusals.pop(generation.collection, None)
        return problems

    def refusal(self, collection: str) -> str:
        """Returns why a collection could not be created when it was last tried, or ""."""
        return self._refusals.get(collection, "")

    async def show(self, projection: Projection[Any]) -> None:
        """Shows readers without the bus, under the projection's name, the collection that is read.

        Logs a problem with that, once. Raises: StoreUnavailable.
        """
        shows: Browsable | None = able(self._collections, Browsable, projection.target())
        if shows is None:
            return
        lineage = await self.lineage(projection, within=0)
        while True:
            read = lineage.active and self.target_of(projection, lineage.of(lineage.active))
            if read and read.place != projection.place:
                return  # another release's, who shows it
            problem = await shows.show(projection.name, read or None)
            shown, lineage = lineage.active, await self.lineage(projection, within=0)
            if lineage.active == shown:  # else it shows what readers have left
                break
        if problem and problem != self._unshown.get(projection.name):
            log.warning("not_shown_by_name", projection=projection.name, reason=problem)
        self._unshown[projection.name] = problem

    async def problems(self, projection: Projection[Any]) -> Sequence[str]:
        """Returns what is not as declared in its collections, after another try if something was.

        Raises: StoreUnavailable.
        """
        if self._problems.get(projection.name):
            await self.prepare(projection)
        return self._problems.get(projection.name, ())

    async def _nothing_happened(self, projection: Projection[Any]) -> bool:
        if self._history and await self._history.missing(projection.categories):
            return False  # its events may still arrive
        async for _ in self._log.scan(projection.categories):
            return False
        return True

    async def change(
        self, projection: Projection[Any], change: Callable[[Lineage], Lineage]
    ) -> Lineage:
        """Changes the stored lineage; returns the result.

        Raises: StoreUnavailable, and what `change` raises.
        """
        after = Lineage(projection.name)

        def changed(document: Document) -> Document:
            nonlocal after
            before = lineage_from(projection.name, document, projection.partitions)
            after = change(before)
            return document if after == before else after.document()

        await change_note(self._control, projection.name, changed)
        self._known[projection.name] = after, time.monotonic()
        return after

    async def lineage(self, projection: Projection[Any], within: float = KNOWN_FOR) -> Lineage:
        """Returns the lineage as it was `within` seconds ago at most. Raises: StoreUnavailable."""
        known = self._known.get(projection.name)
        if known and time.monotonic() - known[1] <= within:
            return known[0]
        if projection.name not in self._asking:
            self._asking[projection.name] = apart(self._ask(projection))
        return await asyncio.shield(self._asking[projection.name])

    async def _ask(self, projection: Projection[Any]) -> Lineage:
        """Asks the store; all who ask meanwhile wait for the same answer."""
        try:
            return await self.change(projection, lambda lineage: lineage)
        except asyncio.CancelledError:
            if clock.is_cancelled():
                raise
            raise StoreUnavailable(
                "asking which collections there are was cancelled; ask again"
            ) from None
        finally:
            del self._asking[projection.name]

    async def close(self) -> None:
        """Stops asking."""
        await end(self._asking.values())

    def known(self, projection: Projection[Any]) -> Lineage:
        """Returns the lineage as last learned; before that, as that of a new projection."""
        if known := self._known.get(projection.name):
            return known[0]
        return _begun(Lineage(projection.name), projection, is_new=True)

    async def target(self, projection: Projection[Any]) -> Target:
        """Returns where readers find the documents. Raises: NotBuilt, StoreUnavailable."""
        lineage = await self.lineage(projection)
        if not lineage.active:
            raise NotBuilt(
                f"projection {projection.name!r} is being built from the log; ask again later, "
                f"and see to it that a worker runs (`bus projections status` tells how far it is)"
            )
        read = lineage.of(lineage.active)
        if read.place != projection.place:
            raise kept_elsewhere(read.target(projection.name, ()), projection.sink)
        return self.target_of(projection, read)

    def target_of(self, projection: Projection[Any], generation: Generation) -> Target:
        return generation.target(projection.name, projection.indexes)


class CurrentDocuments(StoredDocuments):
    """The documents of the collection that readers are to read at the time of each query."""

    def __init__(
        self, projection: Projection[Any], catalogue: Catalogue, collections: Collections
    ) -> None:
        self._projection = projection
        self._catalogue = catalogue
        self._collections = collections

    async def _now(self) -> StoredDocuments:
        return self._collections.documents(await self._catalogue.target(self._projection))

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None:
        return await (await self._now()).find_one(filter)

    async def find(
        self,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, Any]] = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        return await (await self._now()).find(filter, sort=sort, skip=skip, limit=limit)

    async def count(self, filter: Mapping[str, Any]) -> int:
        return await (await self._now()).count(filter)

    async def distinct(self, field: str, filter: Mapping[str, Any]) -> list[Any]:
        return await (await self._now()).distinct(field, filter)

    async def group(self, grouping: Grouping, filter: Mapping[str, Any]) -> list[Document]:
        return await (await self._now()).group(grouping, filter)


def _moved_elsewhere(own: Generation, declared: Target) -> ConfigurationError:
    return ConfigurationError(
        f"projection {declared.projection!r}: {own.collection} is kept in a place of another kind "
        f"({own.place or 'documents'}) than this code declares ({declared.place or 'documents'}); "
        f"raise the projection's version=, and it is built anew there while readers read the old "
        f"one"
    )


def _divided(lineage: Lineage, projection: Projection[Any]) -> Lineage:
    """Returns the lineage with as many queues as are declared. Messages left in other queues are in
    the log, where the sweep at a worker's start finds them."""
    for generation in lineage.fed_by(projection.version):
        if generation.partitions != projection.partitions:
            lineage = lineage.with_generation(generation.divided(projection.partitions))
    return lineage


def _begun(
    lineage: Lineage, projection: Projection[Any], is_new: bool, left: Collection[str] = ()
) -> Lineage:
    """Returns the lineage with a generation of the declared version: built already if nothing ever
    happened (`is_new`), and in none of the collections `left` by a lost lineage."""
    if lineage.latest(projection.version):
        return lineage
    begun = with_next(lineage, projection, left)
    return begun.switched(begun.building) if is_new else begun


def with_next(lineage: Lineage, projection: Projection[Any], left: Collection[str] = ()) -> Lineage:
    """Returns the lineage with another generation of the declared version, which is to be built."""
    collection = lineage.next_collection(projection.version, left)
    target = projection.target()
    return lineage.begun(
        Generation(
            collection=collection,
            version=projection.version,
            partitions=projection.partitions,
            versions_in_documents=target.versions_in_documents,
            place=target.place,
        )
    )

"""Generations: the collections that a projection has had, and which one readers read. No I/O.

A generation is one collection, filled by one version of the projection's code, with its own queue,
versions and parked streams. Its name says which version, and which run of it: `balances__v1`,
`balances__v2`, `balances__v2r2`. (Earlier releases called the first one `balances`.)
"""

from collections.abc import Collection
from typing import NamedTuple

from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.read.projection import collection_of, queue_of
from bus.stores.collections import Index, Target

GONE_KEPT = 10
"""The number of dropped collections whose names are remembered, and not used again."""


class Generation(NamedTuple):
    """One collection of a projection's documents.

    `partitions` is the number of its queues, `former` its earlier numbers; `versions_in_documents`
    and `place` are those of its `Target`.
    """

    collection: str
    version: int
    partitions: int
    versions_in_documents: bool
    former: tuple[int, ...] = ()
    place: str = ""

    @property
    def queue(self) -> str:
        """The name of its queues; the first generation's is the projection's own."""
        return queue_of(self.collection)

    def divided(self, partitions: int) -> "Generation":
        """Returns the generation with another number of queues."""
        former = {*self.former, self.partitions} - {partitions}
        return self._replace(partitions=partitions, former=tuple(sorted(former)))

    def target(self, projection: str, indexes: tuple[Index, ...]) -> Target:
        """Returns where its documents and versions are."""
        own = self.versions_in_documents
        return Target(
            projection=projection,
            collection=self.collection,
            versions_in_documents=own,
            indexes=indexes,
            place=self.place,
        )

    def document(self) -> Document:
        """Returns the generation as JSON types; without a place it is as earlier releases know
        it."""
        document = self._asdict()
        return document if self.place else {n: v for n, v in document.items() if n != "place"}


class Lineage(NamedTuple):
    """The collections of one projection. They are referred to by name; "" means none.

    `active` is the one that readers read, `previous` the one that they would go back to, and
    `building` the one that is being built. Until `held_until` (Unix time, seconds) nothing may be
    written to the active one. `gone` are those dropped last: a process that does not know yet may
    declare their queues again.
    """

    projection: str
    generations: tuple[Generation, ...] = ()
    active: str = ""
    previous: str = ""
    building: str = ""
    held_until: float = 0.0
    gone: tuple[Generation, ...] = ()

    def of(self, collection: str) -> Generation:
        """Returns the generation with that collection. Raises: ProjectionError if there is none."""
        for generation in self.generations:
            if generation.collection == collection:
                return generation
        known = ", ".join(generation.collection for generation in self.generations) or "none"
        raise ProjectionError(
            f"projection {self.projection!r} has no collection {collection!r}; it has {known}"
        )

    def latest(self, version: int) -> Generation | None:
        """Returns a code version's generation, or None: the active one, otherwise the last."""
        own = [generation for generation in self.generations if generation.version == version]
        active = [generation for generation in own if generation.collection == self.active]
        chosen = active or own
        return chosen[-1] if chosen else None

    def fed_by(self, version: int) -> list[Generation]:
        """Returns what workers with this version of the code keep up to date."""
        own = [
            self.latest(version),
            *(g for g in self.generations if g.collection == self.building),
        ]
        return list(dict.fromkeys(g for g in own if g and g.version == version))

    def in_use(self, version: int) -> list[Generation]:
        """Returns what readers read, and what that version keeps up to date."""
        read = [g for g in self.generations if g.collection == self.active]
        return list(dict.fromkeys([*read, *self.fed_by(version)]))

    def with_generation(self, changed: Generation) -> "Lineage":
        """Returns the lineage with a changed generation in its place."""
        return self._replace(
            generations=tuple(
                changed if g.collection == changed.collection else g for g in self.generations
            )
        )

    def paused(self, until: float) -> "Lineage":
        """Returns the lineage with the active collection held until then."""
        return self._replace(held_until=until)

    def is_paused(self, generation: Generation, now: float) -> bool:
        """Returns whether nothing may be written to a collection at present."""
        return generation.collection == self.active and now < self.held_until

    def begun(self, generation: Generation) -> "Lineage":
        """Returns the lineage with one more, to be built instead of the one being built so far."""
        return self._replace(
            generations=(*self.generations, generation), building=generation.collection
        )

    def switched(self, collection: str) -> "Lineage":
        """Returns the lineage with readers at a collection. Raises: ProjectionError if unknown."""
        self.of(collection)
        if collection == self.active:
            return self
        building = "" if self.building == collection else self.building
        return self._replace(
            active=collection, previous=self.active, building=building, held_until=0.0
        )

    def dropped(self, collection: str) -> "Lineage":
        """Returns the lineage without a collection.

        Raises: ProjectionError if readers read it, or there is no such collection.
        """
        gone = self.of(collection)
        if collection == self.active:
            raise ProjectionError(
                f"projection {self.projection!r}: readers read {collection!r}, so it cannot be "
                f"dropped; move them to another one before, by a rebuild or a rollback"
            )
        return self._replace(
            generations=tuple(g for g in self.generations if g is not gone),
            previous="" if self.previous == collection else self.previous,
            building="" if self.building == collection else self.building,
            gone=(*self.gone, gone)[-GONE_KEPT:],
        )

    def next_collection(self, version: int, left: Collection[str] = ()) -> str:
        """Returns the name of a version's next collection: not one of its generations, of those
        that are gone, or of `left`."""
        taken = {*left, *(g.collection for g in (*self.generations, *self.gone))}
        if self.projection in taken:
            taken.add(collection_of(self.projection, 1))  # its queue would be the same
        run = 1
        while (name := collection_of(self.projection, version, run)) in taken:
            run += 1
        return name

    def document(self) -> Document:
        """Returns the lineage as JSON types."""
        generations = [generation.document() for generation in self.generations]
        gone = [generation.document() for generation in self.gone]
        return {**self._asdict(), "generations": generations, "gone": gone}


def lineage_from(projection: str, document: Document, partitions: int) -> Lineage:
    """Returns the lineage that a document holds.

    Before there were lineages a document held only `versions_in_documents`, and there were as many
    queues as are declared.
    """
    if "generations" in document:
        generations, gone = (
            tuple(Generation(**{**held, "former": tuple(held["former"])}) for held in documents)
            for documents in (document["generations"], document.get("gone", ()))
        )
        rest = {name: document[name] for name in ("active", "previous", "building", "held_until")}
        return Lineage(projection, generations, gone=gone, **rest)
    if "versions_in_documents" in document:
        first = Generation(projection, 1, partitions, document["versions_in_documents"])
        return Lineage(projection, (first,), active=projection)
    return Lineage(projection)

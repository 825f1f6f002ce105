"""Lineage: the collections that a projection has had, and which of them readers read. No I/O.

A generation is one collection, made by one version of the projection's code, with its own queue,
versions and parked streams. Its name says which version and which run of it that is:
`balances__v1`, `balances__v2`, `balances__v2r2`. (Releases before called the first `balances`.)
"""

from collections.abc import Collection
from typing import NamedTuple

from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.read.projection import collection_of, queue_of
from bus.stores.collections import Index, Target

GONE_KEPT = 10
"""So many names of dropped collections are remembered, and not given again."""


class Generation(NamedTuple):
    """One collection of a projection's documents.

    `partitions` is the number of its queues, and `former` what that was before;
    `versions_in_documents` as of its `Target`.
    """

    collection: str
    version: int
    partitions: int
    versions_in_documents: bool
    former: tuple[int, ...] = ()

    @property
    def queue(self) -> str:
        """How its queues are called: the first one's as the projection is."""
        return queue_of(self.collection)

    def divided(self, partitions: int) -> "Generation":
        """With another number of queues from now on."""
        former = {*self.former, self.partitions} - {partitions}
        return self._replace(partitions=partitions, former=tuple(sorted(former)))

    def target(self, projection: str, indexes: tuple[Index, ...]) -> Target:
        """Where its documents and versions are."""
        return Target(projection, self.collection, self.versions_in_documents, indexes)


class Lineage(NamedTuple):
    """What is known of one projection. Collections go by their names, and "" is none.

    `active` is the one that readers read, `previous` the one that they would go back to, and
    `building` the one that is being built. Until `held_until` (Unix time, seconds) nothing is to
    be written into the active one. `gone` are the last ones that were dropped: who has not heard of
    that may make their queues once more.
    """

    projection: str
    generations: tuple[Generation, ...] = ()
    active: str = ""
    previous: str = ""
    building: str = ""
    held_until: float = 0.0
    gone: tuple[Generation, ...] = ()

    def of(self, collection: str) -> Generation:
        """The generation with that collection. Raises: ProjectionError."""
        for one in self.generations:
            if one.collection == collection:
                return one
        known = ", ".join(one.collection for one in self.generations) or "none"
        raise ProjectionError(
            f"projection {self.projection!r} has no collection {collection!r}; it has {known}"
        )

    def latest(self, version: int) -> Generation | None:
        """The generation that counts for a version of the code: the active one, or the last."""
        own = [one for one in self.generations if one.version == version]
        active = [one for one in own if one.collection == self.active]
        chosen = active or own
        return chosen[-1] if chosen else None

    def fed_by(self, version: int) -> list[Generation]:
        """What workers with this version of the code keep up to date."""
        own = [
            self.latest(version),
            *(g for g in self.generations if g.collection == self.building),
        ]
        return list(dict.fromkeys(one for one in own if one and one.version == version))

    def in_use(self, version: int) -> list[Generation]:
        """What is kept up to date by that version, and what readers read."""
        read = [one for one in self.generations if one.collection == self.active]
        return list(dict.fromkeys([*read, *self.fed_by(version)]))

    def with_generation(self, changed: Generation) -> "Lineage":
        """With a generation as it is now."""
        return self._replace(
            generations=tuple(
                changed if one.collection == changed.collection else one for one in self.generations
            )
        )

    def held(self, until: float) -> "Lineage":
        """With the active collection held until then."""
        return self._replace(held_until=until)

    def is_held(self, generation: Generation, now: float) -> bool:
        """Whether a collection is to be left as it is just now."""
        return generation.collection == self.active and now < self.held_until

    def begun(self, generation: Generation) -> "Lineage":
        """With one more, which is to be built. What was being built so far is built no further."""
        return self._replace(
            generations=(*self.generations, generation), building=generation.collection
        )

    def flipped(self, collection: str) -> "Lineage":
        """With readers at another collection. Raises: ProjectionError where there is none such."""
        self.of(collection)
        if collection == self.active:
            return self
        building = "" if self.building == collection else self.building
        return self._replace(
            active=collection, previous=self.active, building=building, held_until=0.0
        )

    def dropped(self, collection: str) -> "Lineage":
        """Without one. Raises: ProjectionError where readers read it, or there is none such."""
        gone = self.of(collection)
        if collection == self.active:
            raise ProjectionError(
                f"projection {self.projection!r}: readers read {collection!r}, so it cannot be "
                f"dropped; move them to another one before, by a rebuild or a rollback"
            )
        return self._replace(
            generations=tuple(one for one in self.generations if one is not gone),
            previous="" if self.previous == collection else self.previous,
            building="" if self.building == collection else self.building,
            gone=(*self.gone, gone)[-GONE_KEPT:],
        )

    def next_collection(self, version: int, left: Collection[str] = ()) -> str:
        """The name of a version's next collection: none that was used before and still is there,
        nor one of those that are `left`."""
        taken = {*left, *(one.collection for one in (*self.generations, *self.gone))}
        if self.projection in taken:
            taken.add(collection_of(self.projection, 1))  # its queue would be the same
        run = 1
        while (name := collection_of(self.projection, version, run)) in taken:
            run += 1
        return name

    def document(self) -> Document:
        """The lineage as JSON types."""
        generations = [one._asdict() for one in self.generations]
        gone = [one._asdict() for one in self.gone]
        return {**self._asdict(), "generations": generations, "gone": gone}


def lineage_from(projection: str, document: Document, partitions: int) -> Lineage:
    """The lineage that a document tells of.

    Before there were lineages it held `versions_in_documents` alone; its queues, then, were as
    many as are declared.
    """
    if "generations" in document:
        generations, gone = (
            tuple(Generation(**{**one, "former": tuple(one["former"])}) for one in documents)
            for documents in (document["generations"], document.get("gone", ()))
        )
        rest = {name: document[name] for name in ("active", "previous", "building", "held_until")}
        return Lineage(projection, generations, gone=gone, **rest)
    if "versions_in_documents" in document:
        first = Generation(projection, 1, partitions, document["versions_in_documents"])
        return Lineage(projection, (first,), active=projection)
    return Lineage(projection)

"""Projections: what an operator sees of read collections, and does with them.

Workers build collections, consume events and move readers; here that is requested and shown.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from bus.assembly.runtime import OnOpenBus
from bus.errors import ProjectionError, StoreUnavailable
from bus.failures.deadletters import settled_in_log
from bus.read.foreign import Progress
from bus.read.lag import Lag, LagMeter
from bus.read.parking import Stuck, stuck
from bus.read.projection import Projection
from bus.read.sweeper import Sweeper
from bus.rebuild.audit import Audit, Report
from bus.rebuild.builder import plan_from, plan_of
from bus.rebuild.catalogue import with_next
from bus.rebuild.drift import Audited, Selection
from bus.rebuild.generations import Generation, Lineage
from bus.rebuild.handled import beyond, names_of
from bus.rebuild.handled import served as served_names
from bus.rebuild.switch import Switch
from bus.stores.collections import Collections, Target, able
from bus.stores.control import drop


class Declared(NamedTuple):
    """A projection as the code declares it; `versions_in_documents` is that of `Target`."""

    projection: str
    version: int
    categories: tuple[str, ...]
    events: tuple[str, ...]
    partitions: int
    versions_in_documents: bool


class CollectionStatus(NamedTuple):
    """One collection of a projection. `state` is "read" (by readers), "building", "fetching" or
    "kept".

    While it is being built, it holds about `replayed` of `commits` commits; while it fetches other
    services' history, `replayed` counts the events that came so far. `waiting` messages are in its
    queues. `lag` is how far it is behind the log, None unless readers read it, or if the store that
    a sink keeps it in is `away`, which then says why. `parked` counts its parked streams; `stuck`
    are the oldest of them. Up to `swept`, it was compared with the log.
    """

    projection: str
    collection: str
    version: int
    state: str
    replayed: int
    commits: int
    waiting: int
    parked: int
    swept: datetime | None
    lag: Lag | None = None
    stuck: tuple[Stuck, ...] = ()
    away: str = ""


class Projections(OnOpenBus):
    """Shows and manages the projections of a bus, which must be open, except for `declared`.

        async with bus.looking():
            for collection in await Projections(bus).status():
                print(collection.collection, collection.state, collection.lag)

    Raises: ProjectionError, which says what is missing or impossible; StoreUnavailable,
    TransportUnavailable.
    """

    def declared(self) -> Sequence[Declared]:
        """Returns the projections that the code declares; the bus need not be open."""
        return [
            Declared(
                projection=projection.name,
                version=projection.version,
                categories=projection.categories,
                events=tuple(sorted(projection.registry())),
                partitions=projection.partitions,
                versions_in_documents=projection.target().versions_in_documents,
            )
            for projection in self._all()
        ]

    async def status(self, *names: str) -> Sequence[CollectionStatus]:
        """Returns every collection of the projections named, or of all."""
        chosen = [self._named(name) for name in names] or self._all()
        return [
            await self._status(projection, lineage, generation)
            for projection in chosen
            for lineage in [await self._lineage(projection)]
            for generation in lineage.generations
        ]

    async def rebuild(self, name: str) -> str:
        """Starts a new collection for the declared version and returns its name; workers build it
        and then move readers to it.

        Raises: ProjectionError, also if workers of another release would have to build it.
        """
        projection = self._named(name)
        await self._check_served(projection, await self._lineage(projection), or_less=True)

        def begin(lineage: Lineage) -> Lineage:
            if lineage.building:
                raise ProjectionError(
                    f"projection {name!r}: its next collection {lineage.building} is being built "
                    f"already; `bus projections status` tells how far it is (workers build it), "
                    f"and `bus projections drop` gives it up"
                )
            return with_next(lineage, projection)

        return (await self._runtime.catalogue.change(projection, begin)).building

    async def _check_served(
        self, projection: Projection[Any], lineage: Lineage, *, or_less: bool = False
    ) -> None:
        """Checks that this code may judge and change the collection that readers read.

        With `or_less`, this code may handle less than the workers do. Raises: ProjectionError if
        another release of the code serves it.
        """
        if not lineage.active:
            return
        read = lineage.of(lineage.active)
        if read.version != projection.version:
            raise ProjectionError(
                f"projection {projection.name!r}: readers read {read.collection}, which version "
                f"{read.version} of it makes, and this code is version {projection.version}; use "
                f"the code of that version, or wait until workers of this one have built theirs"
            )
        served, own = (
            await served_names(self._runtime.control, read.collection),
            names_of(projection),
        )
        more, less = beyond(own, served), beyond(served, own)
        if served and (more or (less and not or_less)):
            raise ProjectionError(
                f"projection {projection.name!r}: {read.collection} is served by another release "
                f"of the code: {_other(more, less)}; use the code of that release, or start "
                f"workers of this one first"
            )

    async def rollback(self, name: str) -> str:
        """Moves readers back to the collection that they read before, once it is up to date;
        returns its name."""
        projection, runtime = self._named(name), self._runtime
        lineage = await self._lineage(projection)
        if not lineage.previous:
            raise ProjectionError(
                f"projection {name!r}: there is nothing to roll back to: readers have read no "
                f"other collection than {lineage.active}"
            )
        generation = lineage.of(lineage.previous)
        if generation.version != projection.version:
            raise ProjectionError(
                f"projection {name!r}: {generation.collection} was made by version "
                f"{generation.version} of it, and this is version {projection.version}; go back "
                f"with the code of that version"
            )
        target = runtime.catalogue.target_of(projection, generation)
        name = f"{runtime.service}.{target.collection}.rollback"
        projector = runtime.projector(projection, target, name)
        switch = Switch(
            projection, runtime.catalogue, runtime.read_log, runtime.collections, runtime.control
        )
        try:
            sweeper = Sweeper(projector, runtime.read_log, runtime.collections, runtime.control)
            await sweeper.sweep()
            reason = await switch.back(generation, sweeper.sweep)
        finally:
            await projector.close()
        if reason:
            raise ProjectionError(f"projection {name!r}: readers stay, {reason}")
        return target.collection

    async def drop(self, name: str, collection: str) -> None:
        """Removes a collection that readers do not read, with its queues and its versions."""
        projection = self._named(name)
        catalogue = self._runtime.catalogue
        generation = (await self._lineage(projection)).of(collection)
        target = catalogue.target_of(projection, generation)
        able(self._runtime.collections, Collections, target)  # raises if another release has it
        await catalogue.change(projection, lambda lineage: lineage.dropped(collection))
        queues = self._runtime.queues_of(projection, generation)
        await self._runtime.transport.delete([queue.name for queue in queues])
        await drop(self._runtime.collections, self._runtime.control, target)
        await self._runtime.continuity.forget(collection)
        await catalogue.show(projection)

    async def audit(
        self, name: str, *, sample: int = 0, repair: bool = False, report: Report | None = None
    ) -> Audited:
        """Compares the collection that readers read with what the log makes of it: `sample`
        documents chosen at random, or all (0). With `repair`, corrects those that differ.

        It may run on a live system; if something differs, the collection stands still for some
        seconds. `report` is called with the progress, in commits.
        """
        audit = await self._audit(name)
        audited = await audit.run(sample=sample, repair=repair, report=report)
        if repair:
            await self._settle_letters(name)
        return audited

    async def refold(
        self,
        name: str,
        *,
        streams: Sequence[str] = (),
        documents: Sequence[Any] = (),
        matching: str = "",
        since: datetime | None = None,
        report: Report | None = None,
    ) -> Audited:
        """Rebuilds a part of the collection that readers read, in place: what is fed by certain
        streams, by those whose ids match a pattern (`job-2024*`) or that had events since a time;
        and documents by their keys (or by how these are written as a text: the values of a primary
        key as a JSON list). The differences list what was not as the log makes it.
        """
        if not (streams or documents or matching or since):
            raise ProjectionError(
                "say which part: give streams=, documents=, matching= (a pattern of ids), or since="
            )
        sink = self._named(name).sink
        keys = [sink.key_from(key) if sink and isinstance(key, str) else key for key in documents]
        part = Selection(streams, keys, matching, since)
        audited = await (await self._audit(name)).run(part=part, repair=True, report=report)
        await self._settle_letters(name)
        return audited

    async def _settle_letters(self, name: str) -> None:
        """Removes the dead letters of events that readers now see applied."""
        projection, runtime = self._named(name), self._runtime
        lineage = await self._lineage(projection)
        read = lineage.of(lineage.active)
        target = runtime.catalogue.target_of(projection, read)
        queues = runtime.letters_of(projection, read)
        await settled_in_log(
            runtime.collections,
            runtime.control,
            projection,
            target,
            queues,
            signals=runtime.signals,
        )

    async def _audit(self, name: str) -> Audit:
        projection, runtime = self._named(name), self._runtime
        await self._check_served(projection, await self._lineage(projection))
        target = await runtime.catalogue.target(projection)
        return Audit(
            projection,
            target,
            runtime.catalogue,
            runtime.read_log,
            runtime.collections,
            runtime.control,
            runtime.foreign,
            service=runtime.service,
            signals=runtime.signals,
        )

    async def fetch(self, category: str) -> str:
        """Asks the owner of a category for its whole history again, and returns the owner's name. A
        feed that brings the category is read from its start again, and its owner not asked.

        Workers store it; their next sweep applies what was missing.
        """
        history = self._runtime.history
        if category not in history.owners:
            known = ", ".join(history.owners) or "none"
            raise ProjectionError(
                f"no projection follows the category {category!r} of another service; these are "
                f"followed: {known}"
            )
        await history.change(category, lambda _: Progress(category))
        return history.owners[category]

    async def _status(
        self, projection: Projection[Any], lineage: Lineage, generation: Generation
    ) -> CollectionStatus:
        control, transport = self._runtime.control, self._runtime.transport
        target = self._runtime.catalogue.target_of(projection, generation)
        states = {lineage.active: "read", lineage.building: "building"}
        note = await control.note(plan_of(target.collection))
        plan = plan_from(note.value) if note.revision else None
        state = states.get(target.collection, "kept")
        replayed, commits = (plan.replayed, plan.commits) if plan else (0, 0)
        fetched = await self._runtime.history.missing(projection.categories)
        if state == "building" and fetched:
            state, replayed = "fetching", sum(progress.events for progress in fetched)
        queues = self._runtime.queues_of(projection, generation)
        is_read = target.collection == lineage.active
        lag, away = await self._lag(projection, target) if is_read else (None, "")
        return CollectionStatus(
            projection=projection.name,
            collection=target.collection,
            version=generation.version,
            state=state,
            replayed=replayed,
            commits=commits,
            waiting=sum([await transport.depth(queue.name) for queue in queues]),
            parked=len([one for one in await control.parked(target) if not one.is_waiting]),
            swept=await control.swept(target),
            lag=lag,
            stuck=tuple(await stuck(control, target)),
            away=away,
        )

    async def _lag(self, projection: Projection[Any], target: Target) -> tuple[Lag | None, str]:
        """Returns the lag, or why another store cannot be asked: all the rest can be told then."""
        runtime = self._runtime
        meter = LagMeter(
            projection.categories, target, runtime.read_log, runtime.collections, runtime.control
        )
        try:
            return await meter.measure(), ""
        except StoreUnavailable as error:
            if projection.sink is None:
                raise
            return None, str(error)

    async def _lineage(self, projection: Projection[Any]) -> Lineage:
        return await self._runtime.catalogue.lineage(projection, within=0)

    def _all(self) -> list[Projection[Any]]:
        return self._bus.runtime.projections

    def _named(self, name: str) -> Projection[Any]:
        for projection in self._all():
            if projection.name == name:
                return projection
        known = ", ".join(projection.name for projection in self._all()) or "none"
        raise ProjectionError(f"there is no projection {name!r}; this service has {known}")


def _other(more: Sequence[str], less: Sequence[str]) -> str:
    """Describes how another release differs: it lacks the events `more`, and handles `less` too."""
    lacks = [f"it does not handle {', '.join(more)}"] if more else []
    return " and ".join([*lacks, *([f"it handles {', '.join(less)} too"] if less else [])])

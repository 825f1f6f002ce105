"""Repairs a database that does not continue what it held, because a backup was restored, say.

What the log holds counts. A new epoch begins, so that events of an earlier one are believed only if
the log holds them. Marks, snapshots and states of other events are forgotten. The collections
concerned are rebuilt from the log, and readers are moved to the new ones. What handlers may have
lost is sent to them again. Every step is idempotent: after a crash, the next run continues.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from bus.assembly.runtime import HasRuntime, OnOpenBus
from bus.errors import ConfigurationError
from bus.observe.log import Logger
from bus.read.foreign import Progress
from bus.read.projection import Projection
from bus.read.sweeper import Sweeper
from bus.rebuild.builder import Builder
from bus.rebuild.catalogue import with_next
from bus.rebuild.generations import Generation, Lineage
from bus.recovery.losses import Losses
from bus.signing import EPOCH_NOTE, new_epoch
from bus.stores.collections import Target
from bus.stores.control import change_note, drop

PAGE = 1000
INDEX_WITHIN = 3600.0
ALL = ("commits", "projections")

Report = Callable[[str], object]

log = Logger("bus.recovery")


class Plan(NamedTuple):
    """What is not as it was (`broken`, by collection), and what recovery does about it: the
    collections that it rebuilds, how many marks of handled events it drops, and the subscriptions
    to which it sends again all that is newer than the time when their queues were quiet."""

    broken: Mapping[str, str]
    rebuilt: tuple[str, ...]
    marks: int
    sent_again: tuple[str, ...] = ()


class Recovery(OnOpenBus):
    """Recovers a service's database. The bus must be open; its workers may run."""

    def __init__(self, bus: HasRuntime, report: Report = lambda step: None) -> None:
        super().__init__(bus)
        self._report = report

    async def plan(self, *, everything: bool = False) -> Plan:
        """Returns what `run` would do; changes nothing. With `everything`, all collections are
        rebuilt, whatever was noticed."""
        await self._runtime.continuity.look()
        broken = self._runtime.continuity.broken
        rebuilt = [name async for name in self._concerned(broken, everything)]
        marks = [mark async for page in self._strange_marks() for mark in page]
        is_older = everything or "commits" in broken
        sent_again = sorted(Losses(self._runtime).queues.values()) if is_older else []
        return Plan(broken, tuple(rebuilt), len(marks), tuple(sent_again))

    async def run(self, *, everything: bool = False) -> Plan:
        """Recovers the database; returns what was done. Raises: ConfigurationError (the log's
        unique index cannot be made), StoreUnavailable, TransportUnavailable (run it again)."""
        self._report("comparing what there is with the log")
        plan = await self.plan(everything=everything)
        if refusal := await self._runtime.event_log.examine(INDEX_WITHIN):
            raise ConfigurationError(refusal)
        await self._begin_epoch()
        await self._forget(plan)
        if plan.sent_again:
            await Losses(self._runtime).note_restored()
        waiting = {name: f"{name!r} is being built anew from the log" for name in plan.rebuilt}
        here = await self._runtime.continuity.identities()
        await self._runtime.continuity.note_turn(here, waiting)
        await self._runtime.continuity.look()
        for number, name in enumerate(plan.rebuilt, 1):
            self._report(f"building {name} anew ({number} of {len(plan.rebuilt)})")
            await self._rebuild(name)
        log.info("recovered", **plan._asdict())
        return plan

    async def _begin_epoch(self) -> None:
        await change_note(self._runtime.control, EPOCH_NOTE, lambda _: new_epoch())
        await self._runtime.signing.open()

    async def _forget(self, plan: Plan) -> None:
        """Forgets what does not stem from this log."""
        async for marks in self._strange_marks():
            await self._runtime.effects.forget(marks)
        await self._runtime.event_log.forget_snapshots()
        await self._runtime.event_log.forget_states()
        for aggregate in self._runtime.aggregates:
            if aggregate.storing.by_state:
                name = aggregate.__name__
                self._report(f"its states are dropped; run `bus aggregates store APP {name}`")
        if "followed" in plan.broken:
            for category in self._runtime.history.owners:
                anew = partial(_from_the_start, category)
                await self._runtime.history.change(category, anew)

    # --- what is concerned ---------------------------------------------------------------------

    async def _concerned(self, broken: Mapping[str, str], everything: bool) -> AsyncIterator[str]:
        """Yields the collections that may hold what the log does not, or lack what it holds."""
        everything = everything or any(name in broken for name in ALL)
        for projection in self._runtime.projections:
            lineage = await self._runtime.catalogue.lineage(projection, within=0)
            for generation in lineage.in_use(projection.version):
                target = self._runtime.catalogue.target_of(projection, generation)
                stands_on = self._runtime.stands_on(projection, target)
                is_broken = everything or not broken.keys().isdisjoint(stands_on)
                if is_broken:
                    yield target.collection
                elif why := self._runtime.catalogue.refusal(target.collection):
                    self._report(f"{target.collection} is passed over: {why}")
                elif await self._is_ahead(projection, target):
                    yield target.collection

    async def _is_ahead(self, projection: Projection[Any], target: Target) -> bool:
        """Returns whether a collection has reached events that the log does not hold."""
        own = not set(projection.categories) & self._runtime.history.owners.keys()
        after = ""
        while own:
            page = await self._runtime.collections.reached(target, after, PAGE)
            after = max(page, default="")
            if target.versions_in_documents:
                page = {f"{projection.categories[0]}-{key}": page[key] for key in page}
            heads = await self._runtime.event_log.heads(list(page))
            if any(version > heads.get(stream, 0) for stream, version in page.items()):
                return True
            if len(page) < PAGE:
                break
        return False

    async def _strange_marks(self) -> AsyncIterator[list[str]]:
        """Yields the marks of events that the log does not hold, page by page."""
        after, is_last = "", not self._runtime.dispatcher.lends_sessions
        while not is_last:
            marks = await self._runtime.effects.marks(after, PAGE)
            after, is_last = max(marks, default=""), len(marks) < PAGE
            commits = {mark: self._commit_of(mark) for mark in marks}
            ids = sorted({id for id in commits.values() if id})
            held = await self._runtime.event_log.held(ids)
            if strange := [mark for mark, id in commits.items() if id and id not in held]:
                yield strange

    def _commit_of(self, mark: str) -> str:
        """Returns the commit of a marked event; empty if it is another service's."""
        event = mark.partition("/")[2]
        owners = set(self._runtime.foreign.owners.values())
        return "" if event.partition("/")[0] in owners else event.rpartition(":")[0]

    # --- rebuilding ----------------------------------------------------------------------------

    async def _rebuild(self, collection: str) -> None:
        """Builds another collection, moves readers there if they read this one, and drops this."""
        projection = await self._projection_of(collection)
        lineage = await self._runtime.catalogue.lineage(projection, within=0)
        old = lineage.of(collection)
        new = lineage.active
        if not new or new in self._runtime.continuity.broken:
            begun = await self._begun(projection, old)
            await self._build(projection, begun)
            new = begun.collection
        await self._runtime.catalogue.change(projection, partial(_moved, old=collection, new=new))
        await self._runtime.catalogue.show(projection)  # PostgreSQL drops no table under a view
        queues = self._runtime.queues_of(projection, old)
        await self._runtime.transport.delete([queue.name for queue in queues])
        target = self._runtime.catalogue.target_of(projection, old)
        await drop(self._runtime.collections, self._runtime.control, target)
        await self._runtime.continuity.forget(collection)
        await self._runtime.continuity.look()

    async def _projection_of(self, collection: str) -> Projection[Any]:
        for projection in self._runtime.projections:
            lineage = await self._runtime.catalogue.lineage(projection, within=0)
            if collection in {generation.collection for generation in lineage.generations}:
                return projection
        raise ConfigurationError(f"no projection of this service has a collection {collection!r}")

    async def _begun(self, projection: Projection[Any], old: Generation) -> Generation:
        """Begins the collection that takes its place, unless an earlier run did; returns it."""

        def begin(lineage: Lineage) -> Lineage:
            is_begun = lineage.building and lineage.building != old.collection
            broken = self._runtime.continuity.broken
            return (
                lineage
                if is_begun and lineage.building not in broken
                else with_next(lineage, projection)
            )

        lineage = await self._runtime.catalogue.change(projection, begin)
        await self._runtime.catalogue.prepare(projection)
        await self._runtime.transport.declare(self._runtime.topology)
        return lineage.of(lineage.building)

    async def _build(self, projection: Projection[Any], generation: Generation) -> None:
        """Builds a collection as workers do; those that run take part."""
        runtime = self._runtime
        target = runtime.catalogue.target_of(projection, generation)
        name = f"{runtime.service}.{target.collection}.recovery"
        projector = runtime.projector(projection, target, name, parks_all=True)
        try:
            await Builder(projector, runtime.read_log, runtime.collections, runtime.control).run()
            await Sweeper(projector, runtime.read_log, runtime.collections, runtime.control).sweep()
        finally:
            await projector.close()


def _moved(lineage: Lineage, *, old: str, new: str) -> Lineage:
    """Returns the lineage without the old one, whose readers, if any, read the new one."""
    if lineage.active in (old, ""):
        lineage = lineage.switched(new)
    return (
        lineage.dropped(old) if any(o.collection == old for o in lineage.generations) else lineage
    )


def _from_the_start(category: str, _: Progress) -> Progress:
    return Progress(category)

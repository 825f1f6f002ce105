"""The other stores: tables, indices and topics that projections are kept in, feeds that bring
events."""

from typing import Any

from bus.observe.health import Finding
from bus.operate.doctor.patient import Patient, asked, examined_if
from bus.read.projection import Projection
from bus.stores.sinks.divided import DividedCollections
from bus.stores.sinks.placed import PlacedCollections


async def examined(patient: Patient) -> list[Finding]:
    """Returns what each store is, and what differs in it."""
    collections = patient.runtime.collections
    placed = collections.placed if isinstance(collections, DividedCollections) else {}
    found = [
        finding
        for projection in patient.runtime.projections
        if projection.name in placed
        for finding in await _sink(patient, projection, placed[projection.name])
    ]
    feeds = [
        finding
        for feed in set(patient.runtime.foreign.feeds.values())
        if (examine := getattr(feed, "examined", None))
        for finding in await asked(feed.name, examine(patient.runtime.service))
    ]
    return [*found, *feeds]


async def _sink(
    patient: Patient, projection: Projection[Any], placed: PlacedCollections
) -> list[Finding]:
    name = f"projection {projection.name}"
    found = await asked("its store", _opened(placed))
    is_open = not any(finding.level == "error" for finding in found)
    if is_open and await patient.reaches("database", "projections"):
        found += await asked("its store", _collections(patient, projection, placed))
    return [finding._replace(what=f"{name}: {finding.what}") for finding in found]


async def _opened(placed: PlacedCollections) -> list[Finding]:
    await placed.open(makes=False)
    return await examined_if(placed.place)


async def _collections(
    patient: Patient, projection: Projection[Any], placed: PlacedCollections
) -> list[Finding]:
    """Returns what differs in the collections that this release of the code feeds."""
    catalogue = patient.runtime.catalogue
    fed = catalogue.known(projection).fed_by(projection.version)
    examine = getattr(placed.place, "examined_collection", None)
    own = [generation for generation in fed if generation.place == placed.sink.kind and examine]
    targets = [catalogue.target_of(projection, generation) for generation in own]
    return [finding for target in targets for finding in await placed.examined_collection(target)]

"""Whose the database is, and whether it goes on from what it held."""

from bus.continuity.owner import check_log, check_owner
from bus.observe.health import Finding, fault, fine
from bus.opening import lasts
from bus.operate.doctor.patient import Patient, asked, own_collections

RECOVER = "run `bus events recover APP` (with --dry-run it says what it would do)"


async def examined(patient: Patient) -> list[Finding]:
    """Returns what is not the service's, is lost, or is not as declared."""
    if not await patient.reaches("database", "log"):
        return []
    owner = await asked("the owner", _owner(patient))
    if owner or not await patient.reaches("projections"):
        return owner
    found = [
        *await asked("the contents", _broken(patient)),
        *await asked("the collections", _as_declared(patient)),
    ]
    return found or [fine("it is this service's, and goes on from what it held")]


async def _owner(patient: Patient) -> None:
    """Raises: ConfigurationError if it is another service's."""
    runtime = patient.runtime
    if runtime.log_notes:
        kept = runtime.control if lasts(runtime) else None
        await check_log(runtime.log_notes, kept, runtime.service, claims=False)
    await check_owner(runtime.control, runtime.service, claims=False)


async def _broken(patient: Patient) -> list[Finding]:
    continuity = patient.runtime.continuity
    await continuity.open(notes=False)
    return [fault(what, RECOVER, "G3") for what in continuity.broken.values()]


async def _as_declared(patient: Patient) -> list[Finding]:
    """Returns what is not as declared in the service's own collections; sinks say so themselves."""
    examine = getattr(own_collections(patient.runtime), "examined_collection", None)
    own = [target for target in await patient.runtime.targets() if not target.place]
    return [finding for target in own if examine for finding in await examine(target)]

"""What waits: commits to be published, events to be applied or fetched, parked streams, dead
letters."""

from bus.observe.health import Finding, HealthProblem, fine, warning
from bus.operate.doctor.patient import Patient, asked

PARTS = {
    "relay": ("start a worker or `bus relay APP`, and see to the broker", "G1"),
    "projection": (
        "start a worker, or more of them (`bus projections status APP` tells how far)",
        "G10",
    ),
    "history": ("start a worker of the service that it is fetched from", "G14"),
}
"""What helps where something waits, and the promise that does not hold meanwhile."""
PARKED = (
    "`bus deadletters show APP COLLECTION/STREAM` tells why; mend the projection and start its "
    "workers again"
)
LETTERS = "`bus deadletters groups APP` tells why; mend it, then `bus deadletters retry APP --all`"


async def examined(patient: Patient) -> list[Finding]:
    """Returns what waits longer than it should."""
    if not await patient.reaches("database", "log", "projections"):
        return []
    waiting = [
        _finding(complaint) for part in PARTS for complaint in await patient.complaints(part)
    ]
    letters = await asked("the dead letters", _letters(patient))
    return [*waiting, *letters] or [fine("nothing waits, and nothing was given up")]


def _finding(complaint: HealthProblem) -> Finding:
    part = complaint.part.partition(" ")[0]
    what = f"{complaint.part}: {complaint.what}"
    if "streams parked" in complaint.what:
        return warning(what, PARKED, "G3")
    return warning(what, *PARTS[part])


async def _letters(patient: Patient) -> list[Finding]:
    groups = await patient.runtime.control.dead_letter_groups()
    count = sum(group["count"] for group in groups)
    if not count:
        return []
    queues = ", ".join(sorted({group["queue"] for group in groups}))
    return [warning(f"dead letters: {count:,} of {len(groups)} kinds, from {queues}", LETTERS)]

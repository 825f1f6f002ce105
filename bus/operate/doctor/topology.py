"""What the service declares against what is at the broker: the lines of the plan, as findings."""

from itertools import groupby

from bus.observe.health import Finding, Level, fine, warning
from bus.operate.doctor.patient import Patient, asked
from bus.operate.topology.plan import Plan, found_at, planned
from bus.settings import MEMORY
from bus.transports.rabbitmq.planning.change import PRUNE, UNSEEN, Change

COMPARE_WITHIN = 6.0
"""Seconds, for connecting and for looking at what is there."""
PROMISES = {"queue": "G8", "exchange": "G8", "binding": "G8", "policy": "G8", "timeout": "G4"}
"""What does not hold while something of a kind is not as it should be."""


async def examined(patient: Patient) -> list[Finding]:
    """Returns what differs at the broker."""
    if patient.runtime.settings.amqp_url == MEMORY:
        return []
    if not await patient.reaches("broker"):
        return []
    if not await patient.reaches("database", "projections"):
        remedy = "put right what is said of the database, and ask again"
        why = "which queues projections have is in the database, which cannot be read"
        return [warning(f"not compared: {why}", remedy)]
    return await asked("the topology", _compared(patient), patient.by_urls(COMPARE_WITHIN))


async def _compared(patient: Patient) -> list[Finding]:
    there = await found_at(patient.runtime)
    plan = planned(patient.runtime, there._replace(timeout=patient.consumer_timeout))
    unseen = [change for change in plan.changes if change.sign == UNSEEN]
    found = [_finding(change) for change in plan.changes if change.sign != UNSEEN]
    return [*(found or [_same(plan)]), *_unseen(unseen)]


def _same(plan: Plan) -> Finding:
    return fine(f"as declared, by {plan.source}")


def _unseen(changes: list[Change]) -> list[Finding]:
    return [
        warning(f"not looked at: {', '.join(change.name for change in alike)}", remedy)
        for remedy, alike in groupby(changes, lambda change: change.remedy)
    ]


def _finding(change: Change) -> Finding:
    messages = f" ({change.messages:,} messages)" if change.messages else ""
    return Finding(
        part="",
        level=_level(change),
        what=f"{change.kind} {change.name}{messages}: {change.why}",
        remedy=change.remedy,
        promise="" if change.sign == PRUNE else PROMISES.get(change.kind, ""),
    )


def _level(change: Change) -> Level:
    """What nobody declares does no harm, unless it fills."""
    is_harmless = change.sign == PRUNE and not change.messages
    return "warning" if change.is_warning or is_harmless else "error"

"""The place of the service's own records and documents, the event log, and their clocks."""

from datetime import datetime

from bus.common import clock
from bus.observe.health import Finding, fault, fine, of_problem, warning
from bus.operate.doctor.patient import SILENT, Patient, asked, examined_if
from bus.settings import MEMORY

APART = 2.0
"""Seconds that clocks may differ, besides what an answer takes."""
NTP = "have the machines keep their time by NTP (timedatectl set-ntp true)"
MOVED = "start processes with the setting that this says (docs/stores.md, Moving a log)"


async def examined(patient: Patient) -> list[Finding]:
    """Returns what hinders work with the database."""
    if not await patient.reaches("database"):
        return []
    settings, control = patient.runtime.settings, patient.runtime.control
    if settings.mongo_url == MEMORY:
        return [fine("in memory: what it holds ends with this process")]
    complaints = await patient.complaints("database")
    told = [of_problem(complaint.what, SILENT, "G1") for complaint in complaints]
    return [*told, *_apart("the database", control.now())]


async def log(patient: Patient) -> list[Finding]:
    """Returns what hinders storing commits."""
    runtime = patient.runtime
    if not await patient.reaches(*patient.log):
        return []
    found = await asked("the event log", examined_if(runtime.event_log))
    fenced = await asked("the event log", _fenced(patient))
    ahead = await asked("the event log", _ahead(patient))
    own_clock = _apart("the event log", runtime.event_log.now()) if runtime.log_notes else []
    return [*found, *fenced, *ahead, *own_clock] or [fine("its indexes are as they must be")]


def _apart(whose: str, its: datetime) -> list[Finding]:
    """Returns whether this machine's clock differs from that of a server."""
    ahead = (clock.now() - its).total_seconds()
    if abs(ahead) <= APART:
        return []
    where = "ahead of" if ahead > 0 else "behind"
    what = f"this machine's clock is {abs(ahead):.0f} s {where} that of {whose}"
    return [warning(f"{what}: times in logs, messages and signals are wrong", NTP)]


async def _fenced(patient: Patient) -> list[Finding]:
    reason = await patient.runtime.event_log.fenced()
    return [fault(reason, MOVED, "G1")] if reason else []


async def _ahead(patient: Patient) -> list[Finding]:
    """Returns whether the log holds what is not yet: its server's clock was set back, or another
    server's was ahead."""
    event_log = patient.runtime.event_log
    newest = await event_log.newest()
    stored = await event_log.commits([newest]) if newest else ()
    ahead = max(((c.time - event_log.now()).total_seconds() for c in stored), default=0.0)
    if ahead <= APART:
        return []
    what = f"the newest commit is of a time that comes in {ahead:.0f} s: a clock was set back"
    return [warning(what, NTP)]

"""Checks: what every process of a service asks about its own health."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bus.common import clock
from bus.errors import NotBuilt, Unavailable
from bus.observe.health import Ask, Check
from bus.read.foreign import History
from bus.read.lag import Lag, LagMeter
from bus.read.parking import Stuck, stuck
from bus.read.projection import Projection
from bus.rebuild.catalogue import Catalogue
from bus.stores.collections import Collections
from bus.stores.control import Control
from bus.stores.event_log import EventLog, ReadableLog
from bus.transports.base import Frame, Transport

LATE = timedelta(seconds=10)
LOOK_AT = 10_000
"""The most commits that a projection's lag is measured by at a time."""
NOBODY = "health"
"""A topic that no queue of commands is bound to, and no stream's name."""


def service_checks(
    transport: Transport,
    event_log: EventLog,
    read_log: ReadableLog,
    collections: Collections,
    control: Control,
    catalogue: Catalogue,
    projections: Sequence[Projection[Any]],
    history: History,
) -> list[Check]:
    """Returns the checks that every process of a service asks.

    Without its database it is not ready. The broker may be away: commits wait in the log.
    """

    async def broker() -> str | None:
        """Publishes a message that reaches nobody: only publishing shows an alarm."""
        id = clock.new_id()
        probe = Frame(
            address="commands",
            topic=NOBODY,
            id=id,
            name="Health",
            body=b"",
            time=clock.now(),
            correlation_id=id,
        )
        failures = await transport.publish([probe])
        return str(failures[id]) if failures else None

    async def broker_answers() -> str | None:
        await transport.depth(NOBODY)
        return None

    async def database_answers() -> str | None:
        await event_log.read(NOBODY, limit=1)
        await control.note(NOBODY)
        return None

    async def database() -> str | None:
        """Reads, and writes: to the log what changes nothing, but needs permission to write there,
        and then a document of its own, durably."""
        await event_log.read(NOBODY, limit=1)
        await event_log.confirmed([NOBODY])
        await control.lease(NOBODY, NOBODY, 0)
        return None

    async def relay() -> str | None:
        late = await event_log.pending(event_log.now() - LATE, 1)
        if not late:
            return None
        seconds = (event_log.now() - late[0].time).total_seconds()
        return f"the oldest unpublished commit is {seconds:.0f} s old"

    def behind(projection: Projection[Any]) -> Ask:
        meter: LagMeter | None = None

        async def ask() -> str | None:
            nonlocal meter
            try:
                target = await catalogue.target(projection)
            except NotBuilt as error:
                return str(error)
            if meter is None or meter.target != target:
                meter = LagMeter(
                    projection.categories, target, read_log, collections, control, most=LOOK_AT
                )
            lag = await meter.measure()
            return _described(lag, await stuck(control, target) if lag.parked else ())

        return ask

    def as_declared(projection: Projection[Any]) -> Ask:
        async def ask() -> str | None:
            problems = await catalogue.problems(projection)
            return (
                f"{'; '.join(problems)}; it is made anew when this is asked" if problems else None
            )

        return ask

    def fetched(category: str, owner: str) -> Ask:
        async def ask() -> str | None:
            for progress in await history.missing([category]):
                return f"it is still being fetched from service {owner!r}: {progress.events} events"
            return None

        return ask

    return [
        Check("broker", broker, looks=broker_answers),
        Check("database", database, "ready", database_answers),
        Check("relay", _unless_away(relay)),
        *(Check(f"projection {p.name}", _unless_away(behind(p))) for p in projections),
        *(Check(f"collection {p.name}", _unless_away(as_declared(p))) for p in projections),
        *(
            Check(f"history of {category}", _unless_away(fetched(category, owner)))
            for category, owner in history.owners.items()
        ),
    ]


def _described(lag: Lag, some: Sequence[Stuck]) -> str | None:
    problems = [f"streams parked: {lag.parked}", *map(str, some)] if lag.parked else []
    if lag.parked > len(some) > 0:
        problems.append(f"and {lag.parked - len(some)} more")
    if lag.seconds > LATE.total_seconds():
        more = " and more" if lag.more else ""
        problems.append(f"events not applied: {lag.events}{more}, for {lag.seconds:.0f} s")
    return "; ".join(problems) or None


def _unless_away(ask: Ask) -> Ask:
    """Returns a question that ignores outages: the check of the database itself reports them."""

    async def asked() -> str | None:
        try:
            return await ask()
        except Unavailable:
            return None

    return asked

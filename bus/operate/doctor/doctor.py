"""Examines all that a service stands on, part by part: each is asked even if others are away."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

from bus.assembly.runtime import Runtime
from bus.errors import ConfigurationError
from bus.observe.health import Finding
from bus.observe.log import configure_default
from bus.opening import close_with
from bus.operate.doctor import broker, contents, database, stores, surroundings, topology, work
from bus.operate.doctor.patient import Patient

Examine = Callable[[Patient], Awaitable[list[Finding]]]

PARTS: Mapping[str, Examine] = {
    "settings": surroundings.settings,
    "libraries": surroundings.libraries,
    "telemetry": surroundings.telemetry,
    "broker": broker.examined,
    "topology": topology.examined,
    "database": database.examined,
    "log": database.log,
    "contents": contents.examined,
    "work": work.examined,
    "stores": stores.examined,
}


OPENED_AS = {"projections": "contents"}
"""The part that tells of an opening, where that has another name."""


class HasParts(Protocol):
    """A bus, of which the parts of one more opening can be had."""

    def unopened(self) -> Runtime: ...


class Doctor:
    """Says of a service which promises hold on what it stands on, and what to do where not.

        for finding in await Doctor(bus).examine():
            print(finding.part, finding.level, finding.what, finding.remedy)

    The bus need not be open, and nothing is made: what it looks at may be away, of another release,
    or another service's. It publishes a message that reaches nobody, and takes a lease for no time,
    as asking for health does.
    """

    def __init__(self, bus: HasParts) -> None:
        self._bus = bus

    async def examine(
        self,
        only: Collection[str] = (),
        *,
        consumer_timeout: float | None = None,
        begins: Callable[[str], object] = str,
    ) -> list[Finding]:
        """Returns what was found, in the order of PARTS; of the parts in `only`, and of those that
        they need and that could not be reached. `consumer_timeout` (seconds) is what the broker is
        configured with, which it tells nobody. `begins` is called with each part.

        Each question takes a few seconds at most. Raises: ConfigurationError if there is no such
        part.
        """
        if unknown := sorted({*only} - {*PARTS}):
            raise ConfigurationError(
                f"there is no part {unknown[0]!r} to examine; there are {', '.join(PARTS)}"
            )
        configure_default()
        async with AsyncExitStack() as stack:
            runtime = self._bus.unopened()
            close_with(stack, runtime)
            stack.push_async_callback(runtime.checkup.close)
            patient = Patient(runtime, consumer_timeout=consumer_timeout)
            return await _examined(patient, only, begins)


async def _examined(
    patient: Patient, only: Collection[str], begins: Callable[[str], object]
) -> list[Finding]:
    found: dict[str, list[Finding]] = {part: [] for part in PARTS}
    for part, examine in PARTS.items():
        if not only or part in only:
            begins(part)
            found[part] = await examine(patient)
    for part, opened in patient.opened.items():
        found[OPENED_AS.get(part, part)][:0] = _wanted(part, opened, only)
    return [finding._replace(part=part) for part, several in found.items() for finding in several]


def _wanted(part: str, opened: Collection[Finding], only: Collection[str]) -> list[Finding]:
    """Returns what was found while a part was opened for others: then only what went wrong."""
    is_asked = not only or OPENED_AS.get(part, part) in only
    return [finding for finding in opened if is_asked or finding.level == "error"]

"""A service that is examined: its parts are opened one by one, as far as that goes, so that what
does not answer hides nothing else. Nothing is made."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from bus.assembly.runtime import Runtime
from bus.continuity.owner import OWNER_NOTE
from bus.errors import BusError
from bus.observe.health import GONE, Examined, Finding, HealthProblem, fault, of_problem
from bus.stores.collections import Collections
from bus.stores.sinks.divided import DividedCollections

WITHIN = 5.0
OPEN_WITHIN = 6.0
"""Seconds. Drivers look for their servers for five, and say then what they found."""
SILENT = "see whether it is frozen or overloaded, and whether the network drops what is sent"

Question = Awaitable[Iterable[Finding] | None]


class Patient:
    """The parts of a service. Whoever lends the `runtime` closes it. `consumer_timeout` is the
    broker's, in seconds, None if it is not known."""

    def __init__(self, runtime: Runtime, *, consumer_timeout: float | None = None) -> None:
        self.runtime = runtime
        self.consumer_timeout = consumer_timeout
        self.looks_only = {"broker"}
        """What health does not write to; to the broker nothing until it is known what takes it."""
        self._opened: dict[str, list[Finding]] = {}
        self._complaints: Sequence[HealthProblem] | None = None

    async def reaches(self, *parts: str) -> bool:
        """Returns whether these parts could be opened; after one that could not, asks no other."""
        for part in parts:
            if not await self._reaches(part):
                return False
        return True

    @property
    def log(self) -> tuple[str, ...]:
        """The parts without which there is no event log."""
        return ("log",) if self.runtime.settings.log_url else ("database", "log")

    async def _reaches(self, part: str) -> bool:
        if part not in self._opened:
            opening = OPENINGS[part]
            within = self.by_urls(OPEN_WITHIN) if part == "broker" else OPEN_WITHIN
            self._opened[part] = await asked(part, opening(self.runtime), within)
        return not any(finding.level == "error" for finding in self._opened[part])

    def by_urls(self, seconds: float) -> float:
        """Returns how long the broker may take: its URLs are tried one after the other."""
        return seconds * max(1, len(self.runtime.settings.amqp_urls))

    @property
    def opened(self) -> Mapping[str, Sequence[Finding]]:
        """What was found while parts were opened."""
        return self._opened

    async def complaints(self, part: str) -> list[HealthProblem]:
        """Returns what a process of this service would say of a part when asked for its health."""
        if self._complaints is None:
            if not await _has_begun(self.runtime):
                self.looks_only.add("database")
            self.runtime.checkup.looks_only = self.looks_only
            self._complaints = (await self.runtime.checkup.health()).problems
        return [problem for problem in self._complaints if problem.part.partition(" ")[0] == part]


async def _has_begun(runtime: Runtime) -> bool:
    """Returns whether the database is known to be this service's. In another one a write would make
    collections, or be among somebody else's."""
    try:
        async with asyncio.timeout(GONE):
            note = await runtime.control.note(OWNER_NOTE)
    except (BusError, TimeoutError):
        return False
    return bool(note.value.get("service") == runtime.service)


async def asked(who: str, question: Question, within: float = WITHIN) -> list[Finding]:
    """Returns what a question finds, or that it is not answered."""
    try:
        async with asyncio.timeout(within):
            return list(await question or ())
    except TimeoutError:
        return [fault(f"{who}: no answer within {within:.0f} s", SILENT)]
    except BusError as error:
        return [of_problem(str(error), SILENT)]
    except Exception as error:
        what = f"{who}: {type(error).__name__}: {error}"
        return [fault(what, "see what stands behind it: nobody expected that answer")]


async def _broker(runtime: Runtime) -> None:
    await runtime.transport.open()


async def _database(runtime: Runtime) -> list[Finding]:
    found = await examined_if(runtime.control)
    if not any(finding.level == "error" for finding in found):
        await runtime.control.open(makes=False)
        await own_collections(runtime).open(makes=False)
        if runtime.followed:
            await runtime.followed.open(makes=False)
    return found


async def _log(runtime: Runtime) -> None:
    await runtime.event_log.open(makes=False)


async def _projections(runtime: Runtime) -> None:
    await runtime.signing.open(makes=False)
    await runtime.catalogue.look()


OPENINGS: Mapping[str, Callable[[Runtime], Question]] = {
    "broker": _broker,
    "database": _database,
    "log": _log,
    "projections": _projections,
}


async def examined_if(part: object) -> list[Finding]:
    """Returns what a part finds of itself, if it can be asked."""
    return await part.examined() if isinstance(part, Examined) else []


def own_collections(runtime: Runtime) -> Collections:
    """Returns the service's own place for documents, without those of sinks."""
    collections = runtime.collections
    return collections.own if isinstance(collections, DividedCollections) else collections

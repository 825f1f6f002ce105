"""World: services in memory, as their clients and their operators see them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any, TypeVar

from bus.bus import Bus
from bus.common import clock
from bus.data.payload import Document
from bus.errors import NoHandler, NotBuilt, OutcomeUnknown, StoreUnavailable, TransportUnavailable
from bus.messages import Command, Event, Message, Query, Receipt
from bus.stores.event_log import EventLog
from bus.stores.read_store import ReadStore
from bus.testing.clock import FastTime
from bus.testing.given import check_aggregate, commit_of
from bus.testing.simulation.faults import CrashPoint, Step, When
from bus.testing.simulation.ground import Stores
from bus.testing.simulation.process import Died, Process
from bus.testing.simulation.rest import Rest
from bus.testing.written import documents_in
from bus.write.aggregate import Aggregate, stream_of

Answer = TypeVar("Answer")

PAUSE = 0.002
ON_ITS_WAY = 25
"""So many pauses a message may be on its way without a fault."""
BUILT_WITHIN = 30.0
"""Seconds that a client waits for a projection that is being built."""


class Service:
    """One service of a world."""

    def __init__(self, process: Process, bus: Bus, stores: Stores) -> None:
        self.name = bus.service
        self._process = process
        self._projected = [one.name for one in bus.runtime.projections]
        self._handler_of = bus.runtime.dispatcher.handler_of
        self._stores = stores

    async def execute(
        self, command: Command, *, id: str | None = None, after: Receipt | None = None
    ) -> Receipt:
        """As `Bus.execute`, by a client that repeats with the same id until it is answered.

        Raises: what the handler raises, NotCaughtUp.
        """
        id = id or clock.new_id()
        return await self._insist(lambda bus: bus.execute(command, id=id, after=after))

    async def send(self, command: Command, *, id: str | None = None) -> str:
        """As `Bus.send`, by a client that repeats with the same id until it is answered."""
        id = id or clock.new_id()
        return await self._insist(lambda bus: bus.send(command, id=id))

    async def request(self, command: Command, *, id: str | None = None) -> Receipt:
        """As `Bus.request`, by a client that repeats with the same id until it is answered.

        Raises: what the handler raises.
        """
        id = id or clock.new_id()
        return await self._insist(lambda bus: bus.request(command, id=id))

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> Answer:
        """As `Bus.query`, by a client that asks again where the service is away, or builds what
        it would read.

        Raises: what the handler raises, NotCaughtUp.
        """
        return await self._insist(lambda bus: bus.query(query, after=after, timeout=timeout))

    async def given(self, aggregate: type[Aggregate], id: str, *events: Event) -> None:
        """What has happened to an aggregate: stored in the service's log, to be published soon."""
        check_aggregate(aggregate, id)
        stream = stream_of(aggregate, id)
        stored = await self.event_log.read(stream)
        first = stored[-1].last + 1 if stored else 1
        await self.event_log.append([commit_of(aggregate, id, first, events)])

    async def bus(self) -> Bus:
        """The bus of the process's present life. It fails as buses do, and dies with that life."""
        return await self._process.opened()

    def crash_at(self, step: Step, nth: int = 1, *, when: When = "before") -> None:
        """Kills the process the nth time from now on that it reaches a step, before or after it.

        It is started again at once. Leaving the world raises AssertionError if that never happened.
        Raises: ConfigurationError for a step that there is none of.
        """
        self._process.check_there()
        self._process.fate.points.append(CrashPoint(step, when, nth))

    async def crash(self) -> None:
        """Kills the process here and now; returns once it is started again."""
        await self._process.crash()

    async def dead_letters(self) -> list[Document]:
        """What was given up, the latest first."""
        return await self.read_store.dead_letters()

    async def written(self, collection: str) -> dict[Any, Document]:
        """As `bus.testing.written`; it never fails, whatever becomes of the process."""
        return await documents_in(self.read_store, collection, self._projected)

    @property
    def crashes(self) -> int:
        """How often the process was killed."""
        return self._process.crashes

    @property
    def event_log(self) -> EventLog:
        """The event log itself: it never fails, whatever becomes of the process."""
        return self._stores.event_log

    @property
    def read_store(self) -> ReadStore:
        """The read store itself: it never fails, whatever becomes of the process."""
        return self._stores.read_store

    def handles(self, message: type[Message]) -> bool:
        """Whether a command or a query is for this service."""
        try:
            self._handler_of(message)
        except NoHandler:
            return False
        return True

    async def _insist(self, call: Callable[[Bus], Awaitable[Answer]]) -> Answer:
        deadline = time.monotonic() + BUILT_WITHIN
        while True:
            try:
                return await self._process.ask(call)
            except (Died, OutcomeUnknown, StoreUnavailable, TransportUnavailable):
                await asyncio.sleep(PAUSE)
            except NotBuilt:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(PAUSE)


class World:
    """What services live in.

    Commands and queries go to the service that handles them; what else is one service's is that of
    the only one, and where there are several, of `world.of(name)`.
    """

    def __init__(
        self, services: Sequence[Service], owners: Sequence[Service], rest: Rest, clock: FastTime
    ) -> None:
        self._services = list(services)
        self._owners = list(owners)
        self._rest = rest
        self._clock = clock

    def of(self, service: str) -> Service:
        """The service of that name; also one that is only followed here, which has nothing but a
        log. Raises: AssertionError where there is none."""
        for one in (*self._services, *self._owners):
            if one.name == service:
                return one
        names = ", ".join(one.name for one in (*self._services, *self._owners))
        raise AssertionError(f"world.of({service!r}): this world has {names}")

    async def execute(
        self, command: Command, *, id: str | None = None, after: Receipt | None = None
    ) -> Receipt:
        """As `Service.execute`."""
        return await self._for(command).execute(command, id=id, after=after)

    async def send(self, command: Command, *, id: str | None = None) -> str:
        """As `Service.send`."""
        return await self._for(command).send(command, id=id)

    async def request(self, command: Command, *, id: str | None = None) -> Receipt:
        """As `Service.request`."""
        return await self._for(command).request(command, id=id)

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> Answer:
        """As `Service.query`."""
        return await self._for(query).query(query, after=after, timeout=timeout)

    async def bus(self) -> Bus:
        """As `Service.bus`."""
        return await self._only("bus()").bus()

    def crash_at(self, step: Step, nth: int = 1, *, when: When = "before") -> None:
        """As `Service.crash_at`."""
        self._only("crash_at(...)").crash_at(step, nth, when=when)

    async def crash(self) -> None:
        """As `Service.crash`."""
        await self._only("crash()").crash()

    async def dead_letters(self) -> list[Document]:
        """What was given up, service by service, the latest first."""
        everyone = (*self._services, *self._owners)
        return [letter for one in everyone for letter in await one.dead_letters()]

    async def written(self, collection: str) -> dict[Any, Document]:
        """As `Service.written`."""
        return await self._only("written(...)").written(collection)

    @property
    def event_log(self) -> EventLog:
        """As `Service.event_log`."""
        return self._only("event_log").event_log

    @property
    def read_store(self) -> ReadStore:
        """As `Service.read_store`."""
        return self._only("read_store").read_store

    @property
    def crashes(self) -> int:
        """How often a process was killed, all services taken together."""
        return sum(one.crashes for one in (*self._services, *self._owners))

    def advance(self, seconds: float) -> None:
        """Moves the clock, back too. What waits for a later try waits that much less."""
        self._clock.advance(seconds)

    async def settle(self, within: float = 30.0) -> None:
        """Waits until everything has come to rest: published, delivered, handled, projected.

        Meanwhile no faults are drawn (a crash that was asked for happens all the same), and the
        clock runs ahead, so that what would be tried again later is tried again now.
        Raises: AssertionError, after `within` seconds, with what is not at rest and the seed; at
        once for a stream that a projection cannot apply, with the error of its handler; for a
        message whose handler asks for a later try again and again.
        """
        deadline, turns = time.monotonic() + within, count()
        self._rest.begin()
        with ExitStack() as stack:
            for process in self._rest.processes:
                stack.enter_context(process.fate.calm())
            while unrest := await self._rest.unrest():
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"not at rest after {within:g} s: {unrest.reason} ({self})"
                    )
                if unrest.later is None:
                    self._run_ahead(next(turns))
                else:
                    self._clock.advance(unrest.later)
                await asyncio.sleep(PAUSE)

    def _run_ahead(self, turn: int) -> None:
        """Not at once: what is on its way would be taken for lost, and sent again."""
        if turn >= ON_ITS_WAY:
            self._clock.advance(60 if turn == ON_ITS_WAY else 1)

    def __str__(self) -> str:
        return f"seed {self._rest.processes[0].fate.seed}, {self.crashes} crashes"

    def _for(self, message: Command | Query[Any]) -> Service:
        """The service that handles it, or else one that says that nobody does."""
        found = [one for one in self._services if one.handles(type(message))]
        if len(found) > 1:
            names = " and ".join(one.name for one in found)
            raise AssertionError(
                f"{names} both handle {type(message).__name__}; say which one is to, as in "
                f"world.of({found[0].name!r})"
            )
        return (found or self._services)[0]

    def _only(self, what: str) -> Service:
        if len(self._services) > 1:
            names = ", ".join(one.name for one in self._services)
            raise AssertionError(
                f"world.{what}: this world has several services ({names}); say whose, as in "
                f"world.of({self._services[0].name!r}).{what}"
            )
        return self._services[0]

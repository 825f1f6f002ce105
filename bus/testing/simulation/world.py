"""World: services in memory, as their clients and their operators see them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any, TypeVar

from bus.bus import Bus
from bus.common import clock
from bus.common.moved import FormerReadStore
from bus.data.payload import Document
from bus.errors import NoHandler, NotBuilt, OutcomeUnknown, StoreUnavailable, TransportUnavailable
from bus.messages import Command, Event, Message, Query, Receipt
from bus.stores.collections import Collections
from bus.stores.control import Control
from bus.stores.event_log import EventLog
from bus.testing.clock import FastTime
from bus.testing.given import check_aggregate, give
from bus.testing.simulation.faults import CrashPoint, Step, When
from bus.testing.simulation.ground import Stores
from bus.testing.simulation.process import Died, Process
from bus.testing.simulation.rest import Rest
from bus.testing.written import documents_in
from bus.write.aggregate import Aggregate

Answer = TypeVar("Answer")

PAUSE = 0.002
ON_ITS_WAY = 25
"""How many pauses a message may be on its way before it counts as lost."""
BUILT_WITHIN = 30.0
"""Seconds for which a client waits for a projection that is being built."""


class Service:
    """One service of a world."""

    def __init__(self, process: Process, bus: Bus, stores: Stores) -> None:
        self.name = bus.service
        self._process = process
        self._projected = [projection.name for projection in bus.runtime.projections]
        self._handler_of = bus.runtime.dispatcher.handler_of
        self._stores = stores

    async def execute(
        self, command: Command, *, id: str | None = None, after: Receipt | None = None
    ) -> Receipt:
        """Calls `Bus.execute` as a client that repeats with the same id until it gets an answer.

        Raises: what the handler raises, NotCaughtUp.
        """
        id = id or clock.new_id()
        return await self._insist(lambda bus: bus.execute(command, id=id, after=after))

    async def send(self, command: Command, *, id: str | None = None) -> str:
        """Calls `Bus.send` as a client that repeats with the same id until it gets an answer."""
        id = id or clock.new_id()
        return await self._insist(lambda bus: bus.send(command, id=id))

    async def request(self, command: Command, *, id: str | None = None) -> Receipt:
        """Calls `Bus.request` as a client that repeats with the same id until it gets an answer.

        Raises: what the handler raises.
        """
        id = id or clock.new_id()
        return await self._insist(lambda bus: bus.request(command, id=id))

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> Answer:
        """Calls `Bus.query` as a client that asks again while the service is away, or builds what
        the query reads.

        Raises: what the handler raises, NotCaughtUp.
        """
        return await self._insist(lambda bus: bus.query(query, after=after, timeout=timeout))

    async def given(self, aggregate: type[Aggregate], id: str, *events: Event) -> None:
        """Stores what has happened to an aggregate in the service's log, to be published soon."""
        check_aggregate(aggregate, id)
        await give(self.event_log, aggregate, id, events)

    async def bus(self) -> Bus:
        """Returns the bus of the process's present life, with which it dies."""
        return await self._process.opened()

    def crash_at(self, step: Step, nth: int = 1, *, when: When = "before") -> None:
        """Kills the process the nth time from now that it reaches a step, before or after it.

            world.crash_at("publish", when="after")

        It is started again at once. Leaving the world raises AssertionError if it never happened.

        Raises: ConfigurationError for a step that does not exist.
        """
        self._process.check_there()
        self._process.fate.points.append(CrashPoint(step, when, nth))

    async def crash(self) -> None:
        """Kills the process now; returns when it has been started again."""
        await self._process.crash()

    async def dead_letters(self) -> list[Document]:
        """Returns the dead letters, latest first."""
        return await self.control.dead_letters()

    async def written(self, collection: str) -> dict[Any, Document]:
        """Returns what `bus.testing.written` does; never fails, whatever happens to the process."""
        return await documents_in(self.collections, collection, self._projected)

    @property
    def crashes(self) -> int:
        """How often the process was killed."""
        return self._process.crashes

    @property
    def event_log(self) -> EventLog:
        """The event log itself, which never fails, whatever happens to the process."""
        return self._stores.event_log

    @property
    def collections(self) -> Collections:
        """The read collections themselves, which never fail, whatever happens to the process."""
        return self._stores.collections

    @property
    def control(self) -> Control:
        """The service's own records, which never fail either."""
        return self._stores.control

    @property
    def read_store(self) -> Any:
        """What `collections` and `control` were before; goes with the next version."""
        return FormerReadStore(self.collections, self.control)

    def handles(self, message: type[Message]) -> bool:
        """Returns whether this service handles a command or a query."""
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
    """The services of a test, one or several.

    Commands and queries go to the service that handles them. Everything else that belongs to one
    service is here if it is the only one; if there are several, ask `world.of(name)`.
    """

    def __init__(
        self, services: Sequence[Service], owners: Sequence[Service], rest: Rest, clock: FastTime
    ) -> None:
        self._services = list(services)
        self._owners = list(owners)
        self._rest = rest
        self._clock = clock

    def of(self, service: str) -> Service:
        """Returns the service of that name; one that is only followed here has nothing but a log.

        Raises: AssertionError if there is none.
        """
        everyone = {known.name: known for known in (*self._services, *self._owners)}
        if service not in everyone:
            raise AssertionError(f"world.of({service!r}): this world has {', '.join(everyone)}")
        return everyone[service]

    async def execute(
        self, command: Command, *, id: str | None = None, after: Receipt | None = None
    ) -> Receipt:
        """Calls `Service.execute` of the service that handles the command."""
        return await self._for(command).execute(command, id=id, after=after)

    async def send(self, command: Command, *, id: str | None = None) -> str:
        """Calls `Service.send` of the service that handles the command."""
        return await self._for(command).send(command, id=id)

    async def request(self, command: Command, *, id: str | None = None) -> Receipt:
        """Calls `Service.request` of the service that handles the command."""
        return await self._for(command).request(command, id=id)

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> Answer:
        """Calls `Service.query` of the service that handles the query."""
        return await self._for(query).query(query, after=after, timeout=timeout)

    async def bus(self) -> Bus:
        """Returns the only service's bus (see `Service.bus`)."""
        return await self._only("bus()").bus()

    def crash_at(self, step: Step, nth: int = 1, *, when: When = "before") -> None:
        """Kills the only service's process at a step (see `Service.crash_at`)."""
        self._only("crash_at(...)").crash_at(step, nth, when=when)

    async def crash(self) -> None:
        """Kills the only service's process now; returns when it has been started again."""
        await self._only("crash()").crash()

    async def dead_letters(self) -> list[Document]:
        """Returns the dead letters, service by service, latest first."""
        everyone = (*self._services, *self._owners)
        return [letter for service in everyone for letter in await service.dead_letters()]

    async def written(self, collection: str) -> dict[Any, Document]:
        """Returns what the only service's event handlers wrote (see `Service.written`)."""
        return await self._only("written(...)").written(collection)

    @property
    def event_log(self) -> EventLog:
        """The only service's event log, which never fails."""
        return self._only("event_log").event_log

    @property
    def collections(self) -> Collections:
        """The only service's read collections, which never fail."""
        return self._only("collections").collections

    @property
    def control(self) -> Control:
        """The only service's own records, which never fail."""
        return self._only("control").control

    @property
    def read_store(self) -> Any:
        """What `collections` and `control` were before; goes with the next version."""
        return self._only("read_store").read_store

    @property
    def crashes(self) -> int:
        """How often processes were killed, all services together."""
        return sum(service.crashes for service in (*self._services, *self._owners))

    def advance(self, seconds: float) -> None:
        """Moves the clock, forward or back. What waits for a later try waits that much less."""
        self._clock.advance(seconds)

    async def settle(self, within: float = 30.0) -> None:
        """Waits until everything has come to rest: published, delivered, handled, projected.

        Meanwhile no faults are drawn (but a requested crash still happens), and the clock runs
        ahead, so that later tries happen now.

        Raises: AssertionError, naming what is not at rest and the seed, after `within` seconds; at
        once, with the handler's error, for a stream that a projection cannot apply; and for a
        message whose handler keeps asking for a later try.
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
        """Advances the clock, but not at once: what is on its way would count as lost, and be sent
        again."""
        if turn >= ON_ITS_WAY:
            self._clock.advance(60 if turn == ON_ITS_WAY else 1)

    def __str__(self) -> str:
        return f"seed {self._rest.processes[0].fate.seed}, {self.crashes} crashes"

    def _for(self, message: Command | Query[Any]) -> Service:
        """Returns the service that handles it, or the first one, which raises NoHandler."""
        found = [service for service in self._services if service.handles(type(message))]
        if len(found) > 1:
            names = " and ".join(service.name for service in found)
            raise AssertionError(
                f"{names} both handle {type(message).__name__}; say which one is to, as in "
                f"world.of({found[0].name!r})"
            )
        return (found or self._services)[0]

    def _only(self, what: str) -> Service:
        if len(self._services) > 1:
            names = ", ".join(service.name for service in self._services)
            raise AssertionError(
                f"world.{what}: this world has several services ({names}); say whose, as in "
                f"world.of({self._services[0].name!r}).{what}"
            )
        return self._services[0]

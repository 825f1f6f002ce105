"""Chaos: a service in memory, with everything going wrong that a seed draws."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from bus import ambient
from bus.bus import Bus
from bus.errors import OutcomeUnknown, StoreUnavailable, TransportUnavailable
from bus.messages import Command, Query, Receipt
from bus.stores.base import Document, EventLog, ReadStore
from bus.testing.clock import FastTime, ambient_source
from bus.testing.faults import CrashPoint, Fate, Faults, Step, When
from bus.testing.process import Build, Died, Process
from bus.testing.rest import unrest

Answer = TypeVar("Answer")

PAUSE = 0.002


@asynccontextmanager
async def chaos(
    build: Build, *, seed: int = 0, faults: Faults | None = None
) -> AsyncIterator["World"]:
    """Runs a bus and its worker in memory while everything goes wrong that may go wrong.

    Deliveries come late, twice, in any order or not at all; acknowledgements and answers get lost;
    the stores fail; the process dies between two steps and is started again over the same broker
    and the same stores. A seed draws the faults; `faults` says how often which happen.

        async with chaos(build, seed=7) as world:
            await world.execute(OpenAccount(account_id="a1", owner="Ada"))
            await world.settle()
            assert await world.query(GetBalance(account_id="a1")) == BalanceView(...)

    `build` takes settings, and returns a bus that is made with them. Raises: whatever keeps the bus
    from being built; and AssertionError, on leaving, for a crash that was asked for and not met.
    """
    with ambient_source(FastTime(seed)) as clock:
        fate = Fate(seed, Faults() if faults is None else faults)
        world = World(Process(build, fate), fate, clock)
        try:
            await world._process.opened()
            yield world
            fate.check_reached()
        finally:
            fate.end()
            await world._process.leave()


class World:
    """What a service lives in, as its clients and its operator see it."""

    def __init__(self, process: Process, fate: Fate, clock: FastTime) -> None:
        self._process = process
        self._fate = fate
        self._clock = clock

    async def execute(
        self, command: Command, *, id: str | None = None, after: Receipt | None = None
    ) -> Receipt:
        """As `Bus.execute`, by a client that repeats with the same id until it is answered.

        Raises: what the handler raises, NotCaughtUp.
        """
        id = id or ambient.new_id()
        return await self._insist(lambda bus: bus.execute(command, id=id, after=after))

    async def send(self, command: Command, *, id: str | None = None) -> str:
        """As `Bus.send`, by a client that repeats with the same id until it is answered."""
        id = id or ambient.new_id()
        return await self._insist(lambda bus: bus.send(command, id=id))

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> Answer:
        """As `Bus.query`, by a client that asks again where the service is away.

        Raises: what the handler raises, NotCaughtUp.
        """
        return await self._insist(lambda bus: bus.query(query, after=after, timeout=timeout))

    async def bus(self) -> Bus:
        """The bus of the process's present life. It fails as buses do, and dies with that life."""
        return await self._process.opened()

    def crash_at(self, step: Step, nth: int = 1, *, when: When = "before") -> None:
        """Kills the process the nth time from now on that it reaches a step, before or after it.

        It is started again at once. Leaving the world raises AssertionError if that never happened.
        """
        self._fate.points.append(CrashPoint(step, when, nth))

    async def crash(self) -> None:
        """Kills the process here and now; returns once it is started again."""
        await self._process.crash()

    def advance(self, seconds: float) -> None:
        """Moves the clock, back too."""
        self._clock.advance(seconds)

    async def settle(self, within: float = 30.0) -> None:
        """Waits until everything has come to rest: published, delivered, handled, projected.

        Meanwhile no faults are drawn (a crash that was asked for happens all the same), and the
        clock runs ahead, so that what would be tried again later is tried again now.
        Raises: AssertionError, after `within` seconds, with what is not at rest and the seed; at
        once for a stream that a projection cannot apply, with the error of its handler.
        """
        deadline = time.monotonic() + within
        self._clock.advance(60)
        with self._fate.calm():
            while reason := await unrest(self._process.ground, (await self.bus()).parts):
                if time.monotonic() > deadline:
                    raise AssertionError(f"not at rest after {within:g} s: {reason} ({self})")
                self._clock.advance(1)
                await asyncio.sleep(PAUSE)

    async def dead_letters(self) -> list[Document]:
        """What was given up, the latest first."""
        return await self.read_store.dead_letters()

    @property
    def crashes(self) -> int:
        """How often the process was killed."""
        return self._process.crashes

    @property
    def event_log(self) -> EventLog:
        """The event log itself: it never fails, whatever becomes of the process."""
        return self._process.ground.event_log

    @property
    def read_store(self) -> ReadStore:
        """The read store itself: it never fails, whatever becomes of the process."""
        return self._process.ground.read_store

    def __str__(self) -> str:
        return f"seed {self._fate.seed}, {self.crashes} crashes"

    async def _insist(self, call: Callable[[Bus], Awaitable[Answer]]) -> Answer:
        while True:
            try:
                return await self._process.ask(call)
            except (Died, OutcomeUnknown, StoreUnavailable, TransportUnavailable):
                await asyncio.sleep(PAUSE)

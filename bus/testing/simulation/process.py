"""A service's process, which dies and is started again on the same broker and stores.

Knows how a life begins and ends; `faults` decides what goes wrong in it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar, cast

from pydantic import PrivateAttr

from bus.assembly.backend import Backend
from bus.building import a, as_bus, caller_of
from bus.bus import Bus
from bus.common.signatures import name_of
from bus.common.tasks import end
from bus.errors import ConfigurationError, OutcomeUnknown, Unavailable
from bus.observe.loops import Loops
from bus.settings import Settings
from bus.stores.collections import Collections
from bus.stores.control import Control
from bus.stores.event_log import EventLog, FollowedLog
from bus.stores.session import Effects
from bus.testing.simulation.broken import (
    BrokenCollections,
    BrokenEffects,
    BrokenEventLog,
    BrokenFeed,
    BrokenTransport,
    Fragile,
    handling,
)
from bus.testing.simulation.faults import Fate, Life
from bus.testing.simulation.ground import Ground
from bus.transports.base import Transport
from bus.transports.feed import Feed
from bus.transports.memory.transport import MemoryInbox, MemoryTransport
from bus.worker import Worker

Answer = TypeVar("Answer")
Build = Callable[[Settings], Bus]

LAST_GASP = 0.005
"""How long a killed life's tasks may continue, in seconds, before they are cancelled again."""


LEFT = (
    "this world was left, and its services with it; ask it within its `async with` (what was "
    "stored is still there: event_log, collections, control, written, dead_letters)"
)


class Died(Unavailable):
    """The process that should have answered is gone."""


class ChaosSettings(Settings):
    """Settings that bring the transport and the stores of one life."""

    _ground: Ground = PrivateAttr()
    _life: Life = PrivateAttr()
    _transports: list[MemoryTransport] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, ground: Ground, life: Life) -> Self:
        """Returns settings for buses on this ground, valid as long as the life lasts."""
        settings = cls.in_memory()
        settings._ground, settings._life = ground, life
        return settings

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        """Returns the transport and the stores that a bus uses in this life."""
        stores, life = self._ground.stores(service), self._life
        transport = MemoryTransport(self._ground.broker, service)
        self._transports.append(transport)
        effects = stores.effects(projected, self.handled_for)
        return Backend(
            transport=cast(Transport, BrokenTransport(transport, life)),
            event_log=cast(EventLog, BrokenEventLog(stores.event_log, life)),
            collections=cast(Collections, BrokenCollections(stores.collections, life)),
            control=cast(Control, Fragile(stores.control, life)),
            effects=cast(Effects, BrokenEffects(effects, life)),
            middleware=[handling(life)],
            followed=cast(FollowedLog, Fragile(stores.followed, life)),
            feed=lambda feed: cast(Feed, BrokenFeed(self._ground.feed(feed), life)),
        )

    @property
    def inboxes(self) -> list[MemoryInbox]:
        """Every inbox of the transports that are connected."""
        return [inbox for transport in self._transports for inbox in transport.inboxes]

    async def disconnect(self) -> None:
        """Closes the transports, so that the broker takes back what was not settled."""
        for transport in self._transports:
            await transport.close()
        self._transports.clear()


class Process:
    """Runs a bus and its worker, one life after another, until it is left."""

    def __init__(self, build: Build, fate: Fate, ground: Ground) -> None:
        if not callable(build):
            raise ConfigurationError(
                f"chaos(...) and memory_world(...) take functions, and this is {a(build)}: give "
                f"what builds the bus of the settings that it is given, for each of its lives "
                f"anew: def build(settings): return Bus(..., settings=settings)"
            )
        self.fate = fate
        self.crashes = 0
        self._build = build
        self._ground = ground
        self._life = Life(fate)
        self._settings = ChaosSettings.of(ground, self._life)
        self._leaving = asyncio.Event()
        self._opened: asyncio.Future[Bus] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run())

    @property
    def inboxes(self) -> list[MemoryInbox]:
        """The inboxes of its present life."""
        return self._settings.inboxes

    async def opened(self) -> Bus:
        """Returns the bus of the present life, once it is open.

        Raises: what keeps it from opening; AssertionError after the process was left.
        """
        self.check_there()
        return await asyncio.shield(self._opened)

    def check_there(self) -> None:
        """Raises: AssertionError after the process was left."""
        if self._leaving.is_set():
            raise AssertionError(LEFT)

    async def ask(self, call: Callable[[Bus], Awaitable[Answer]]) -> Answer:
        """Makes a call in the present life. Raises: Died if that ends before the answer."""
        bus, life = await self.opened(), self._life
        answer = asyncio.ensure_future(call(bus))
        over = asyncio.create_task(life.over.wait())
        try:
            await asyncio.wait([answer, over], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Died("the process ended before it answered")
            return answer.result()
        finally:
            await _kill(answer, over)

    async def crash(self) -> None:
        """Ends the present life at once; returns when the next one has begun."""
        self.check_there()
        self._end()
        await self.opened()

    async def leave(self) -> None:
        """Ends the last life in good order."""
        self._leaving.set()
        await asyncio.wait([self._running])
        if not self._opened.done():
            self._opened.set_exception(AssertionError(LEFT))
            self._opened.exception()  # retrieved, or asyncio complains when nobody waits

    def _end(self) -> None:
        self._life.over.set()
        if self._opened.done():
            self._opened = asyncio.get_running_loop().create_future()

    async def _run(self) -> None:
        try:
            while not self._leaving.is_set():
                await self._live()
        except Exception as error:
            self._end()
            self._opened.set_exception(error)
            self._opened.exception()  # as in `leave`

    async def _live(self) -> None:
        life = self._life = Life(self.fate)
        settings = self._settings = ChaosSettings.of(self._ground, life)
        serving = asyncio.create_task(self._serve(settings))
        over = asyncio.create_task(life.over.wait())
        await asyncio.wait([serving, over], return_when=asyncio.FIRST_COMPLETED)
        crashed = life.over.is_set()
        self.crashes += crashed
        self._end()
        await _kill(serving, over)
        await settings.disconnect()
        if not crashed:
            serving.result()

    async def _serve(self, settings: Settings) -> None:
        """Does what the process does in one life."""
        name = name_of(self._build)
        bus = as_bus(name, caller_of(name, self._build, lambda: settings)())
        if not isinstance(bus.runtime.transport, BrokenTransport):
            raise ConfigurationError(
                f"{name} returned a bus that was not made with the settings that it was given; "
                f"make one of them at each call: def build(settings): return Bus(..., "
                f"settings=settings)"
            )
        try:
            async with bus, Worker(bus):
                self._opened.set_result(bus)
                await self._leaving.wait()
        except (Unavailable, OutcomeUnknown):
            pass  # a process that starts while its database is away is started again


async def _kill(*tasks: "asyncio.Task[Any]") -> None:
    """Ends tasks, even those that go on after a cancellation."""
    await end(tasks, patience=LAST_GASP)
    await asyncio.gather(*tasks, return_exceptions=True)  # nobody reads what they raised

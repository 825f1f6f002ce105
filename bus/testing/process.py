"""A service's process as something that dies and is started again, over the same broker and stores.

Knows what a life begins and ends with; what goes wrong in it is decided in `faults`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from pydantic import PrivateAttr

from bus.backend import Backend
from bus.bus import Bus
from bus.delivery.worker import Worker
from bus.errors import ConfigurationError, OutcomeUnknown, Unavailable
from bus.settings import MEMORY, Settings
from bus.stores.base import EventLog, FollowedLog, ReadStore
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.stores.memory_effects import MemoryEffects
from bus.stores.memory_log import MemoryFollowedLog
from bus.stores.session import Effects
from bus.testing.broken import (
    BrokenEffects,
    BrokenEventLog,
    BrokenReadStore,
    BrokenTransport,
    Fragile,
    HastyBroker,
    handling,
)
from bus.testing.faults import Fate, Life
from bus.transports.base import Transport
from bus.transports.memory import MemoryInbox, MemoryTransport

Answer = TypeVar("Answer")
Build = Callable[[Settings], Bus]

LAST_GASP = 0.005
"""For how long a killed life's tasks may go on, in seconds, before they are cancelled again."""


class Died(Unavailable):
    """The process that was to answer is gone."""


class ChaosSettings(Settings):
    """Settings that bring the transport and the stores of one life."""

    _ground: "Ground" = PrivateAttr()
    _life: Life = PrivateAttr()

    def backend(self, service: str, projected: Sequence[str]) -> Backend:
        return self._ground.backend(service, projected, self.handled_for, self._life)


class Ground:
    """What a process stands on, and what outlives it: a broker and stores that do not fail."""

    def __init__(self) -> None:
        self.broker = HastyBroker()
        self.event_log = MemoryEventLog()
        self.read_store = MemoryReadStore()
        self.followed = MemoryFollowedLog()
        self._effects: MemoryEffects | None = None
        self._transports: list[MemoryTransport] = []

    def settings(self, life: Life) -> Settings:
        """Settings for a bus that stands on this, as long as the life lasts."""
        settings = ChaosSettings(amqp_url=MEMORY, mongo_url=MEMORY)
        settings._ground, settings._life = self, life
        return settings

    @property
    def inboxes(self) -> list[MemoryInbox]:
        """Every inbox of the processes that are connected."""
        return [inbox for transport in self._transports for inbox in transport.inboxes]

    async def disconnect(self) -> None:
        """The broker sees that the process is gone, and takes back what was not settled."""
        for transport in self._transports:
            await transport.close()
        self._transports.clear()

    def backend(
        self, service: str, projected: Sequence[str], handled_for: float, life: Life
    ) -> Backend:
        """What a bus stands on in one life."""
        transport = MemoryTransport(self.broker, service)
        self._transports.append(transport)
        if self._effects is None:
            self._effects = MemoryEffects(
                self.event_log, self.read_store, projected=projected, handled_for=handled_for
            )
        return Backend(
            cast(Transport, BrokenTransport(transport, life)),
            cast(EventLog, BrokenEventLog(self.event_log, life)),
            cast(ReadStore, BrokenReadStore(self.read_store, life)),
            cast(Effects, BrokenEffects(self._effects, life)),
            _nothing,
            [handling(life)],
            cast(FollowedLog, Fragile(self.followed, life)),
        )


class Process:
    """Runs a bus and its worker, one life after the other, until it is left."""

    def __init__(self, build: Build, fate: Fate) -> None:
        self.ground = Ground()
        self.crashes = 0
        self._build = build
        self._fate = fate
        self._life = Life(fate)
        self._leaving = asyncio.Event()
        self._opened: asyncio.Future[Bus] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run())

    async def opened(self) -> Bus:
        """The bus of the life that is on, once it is open. Raises: why it cannot be opened."""
        return await asyncio.shield(self._opened)

    async def ask(self, call: Callable[[Bus], Awaitable[Answer]]) -> Answer:
        """Makes a call in the life that is on. Raises: Died, where that ends before the answer."""
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
        """Ends the life that is on, here and now; returns once the next has begun."""
        self._end()
        await self.opened()

    async def leave(self) -> None:
        """Ends the last life in good order."""
        self._leaving.set()
        await asyncio.wait([self._running])
        self._opened.cancel()

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
            self._opened.exception()  # whoever waits gets it; nobody need

    async def _live(self) -> None:
        life = self._life = Life(self._fate)
        serving = asyncio.create_task(self._serve(life))
        over = asyncio.create_task(life.over.wait())
        await asyncio.wait([serving, over], return_when=asyncio.FIRST_COMPLETED)
        crashed = life.over.is_set()
        self.crashes += crashed
        self._end()
        await _kill(serving, over)
        await self.ground.disconnect()
        if not crashed:
            serving.result()

    async def _serve(self, life: Life) -> None:
        """What the process does in its life."""
        bus = self._build(self.ground.settings(life))
        if not isinstance(bus.parts.transport, BrokenTransport):
            raise ConfigurationError(
                "chaos(build): the bus was not made with the settings that build was given; "
                "pass them on, as in Bus(..., settings=settings)"
            )
        try:
            async with bus, Worker(bus):
                self._opened.set_result(bus)
                await self._leaving.wait()
        except (Unavailable, OutcomeUnknown):
            pass  # whoever starts a process whose database is away starts it again


async def _nothing() -> None:
    """There is no client to close."""


async def _kill(*tasks: "asyncio.Future[Any]") -> None:
    """Ends tasks, whatever they do when they are cancelled."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=LAST_GASP)
    await asyncio.gather(*tasks, return_exceptions=True)

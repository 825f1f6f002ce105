"""Runs a bus's subscriptions in this process, with all that belongs to them.

Its life: begin → run → stop taking → finish and settle → leave. What it does is in `bus.duties`.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from bus.assembly.runtime import HasRuntime, Runtime
from bus.delivery.consumer import Consumers
from bus.delivery.duties import Work, chosen
from bus.delivery.trust import Trust
from bus.duties import duties_of
from bus.errors import ConfigurationError
from bus.failures.give_up import GiveUp
from bus.lifecycle.duty import Duty, Supervisor, checked
from bus.lifecycle.entering import Entered
from bus.observe.health import Check
from bus.observe.health_server import HealthServer
from bus.observe.signals import WorkerStarted, WorkerStopped


class Worker:
    """Consumes the queues of a bus's subscriptions while it is entered.

        async with build(settings) as bus, Worker(bus):
            ...

    `only` names the subscriptions to run (projections, routers, "commands"), or single partitions
    of a projection ("balances.0of4"); all by default. `duties` run besides them (see `Duty`).
    The bus must be open by then, in the same event loop. Any number of workers may run. A
    projection's queue has one active consumer, the first that came, so a worker of all partitions
    keeps all of them. A worker that is entered several times in a loop works there once, until it
    has been left as often.
    """

    def __init__(
        self, bus: HasRuntime, *, only: Collection[str] = (), duties: Sequence[Duty] = ()
    ) -> None:
        if isinstance(only, str):
            raise ConfigurationError(
                f"Worker(only={only!r}): only= is a list of names; write only=[{only!r}]"
            )
        self._bus = bus
        self._only = frozenset(only)
        self._duties = checked(duties)
        chosen(bus.runtime, self._only)
        self._shifts = Entered(self._shift)

    async def __aenter__(self) -> Self:
        await self._shifts.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._shifts.leave()

    async def stop(self) -> None:
        """Takes nothing more; finishes and settles what is at hand, within `stop_within` seconds.

        Handlers end before projections, because they may be waiting for one of this very worker.
        What could not be finished is delivered again.
        """
        if (shift := self._shifts.here()) is not None:
            await shift.stop()

    @asynccontextmanager
    async def _shift(self) -> AsyncGenerator["_Shift", None]:
        runtime = self._bus.runtime.usable()
        shift = _Shift(runtime)
        await shift.begin(self._only, self._duties)
        runtime.state.guests.append(shift.stop)
        try:
            yield shift
        finally:
            runtime.state.guests.remove(shift.stop)
            await shift.stop()


class _Shift:
    """A worker at work, in one event loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        settings = runtime.settings
        host, port, pages = settings.health_host, settings.health_port, runtime.signals.pages
        self._server = HealthServer(runtime.checkup, host, port, pages=pages)
        self._supervisor = Supervisor(runtime.checkup, runtime.loops)
        self._check = Check("worker", self._is_stopping, "ready")
        self._one_by_one = asyncio.Lock()
        self._stopping = False
        self._has_left = False

    async def begin(self, only: frozenset[str], more: Sequence[Duty]) -> None:
        runtime = self._runtime
        work = Work(
            runtime=runtime,
            subscriptions=chosen(runtime, only),
            only=only,
            consumers=Consumers(self._supervisor, runtime.transport),
            give_up=GiveUp(runtime),
            trust=Trust(runtime),
        )
        runtime.checkup.add([self._check])
        try:
            await self._supervisor.begin(list(duties_of(work)), more)
            if runtime.settings.health_port:
                await self._server.start()
        except BaseException:
            await self._leave()
            raise
        runtime.signals.emit(WorkerStarted, work.names)

    async def _is_stopping(self) -> str | None:
        return "it is stopping" if self._stopping else None

    async def stop(self) -> None:
        self._stopping = True
        async with self._one_by_one:
            if self._has_left:
                return
            try:
                await self._supervisor.stop(self._runtime.settings.stop_within)
            finally:
                await self._leave()

    async def _leave(self) -> None:
        """Cancels what still runs, even if stopping was itself cancelled."""
        try:
            await self._supervisor.leave()
        finally:
            self._has_left = True
            self._runtime.checkup.remove([self._check])
            if self._stopping:
                self._runtime.signals.emit(WorkerStopped, self._supervisor.unfinished)
            await self._server.close()

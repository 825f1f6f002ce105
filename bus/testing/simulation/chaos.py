"""Services in memory, with faults drawn from a seed, or with none."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bus.bus import Bus
from bus.errors import ConfigurationError
from bus.settings import Settings
from bus.testing.clock import FastTime, ambient_source
from bus.testing.simulation.broken import HastyBroker
from bus.testing.simulation.faults import NO_FAULTS, Fate, Faults, checked
from bus.testing.simulation.ground import Ground
from bus.testing.simulation.process import Build, Process
from bus.testing.simulation.rest import Rest
from bus.testing.simulation.world import Service, World


@asynccontextmanager
async def chaos(
    build: Build, *more: Build, seed: int = 0, faults: Faults | None = None
) -> AsyncIterator[World]:
    """Runs a bus and its worker in memory while everything goes wrong that can go wrong.

    Deliveries come late, twice, in any order or not at all; acknowledgements and answers get lost;
    the stores fail; the process dies between two steps and is started again on the same broker and
    stores. The faults are drawn from `seed`; `faults` says how often each kind happens.

        async with chaos(build, seed=7) as world:
            await world.execute(OpenAccount(account_id="a1", owner="Ada"))
            await world.settle()
            assert await world.query(GetBalance(account_id="a1")) == BalanceView(...)

    `build` takes settings, and returns a bus made with them. With several, the services share one
    broker; each is a process with its own stores and faults. A followed service that is not among
    them exists too, and publishes what `world.of(name).given(...)` stores.

    Raises: whatever keeps a bus from being built; on leaving, AssertionError for a crash that was
    requested and did not happen.
    """
    found = Faults() if faults is None else checked(faults)
    async with _living([build, *more], seed, found, FastTime(seed)) as world:
        yield world


@asynccontextmanager
async def memory_world(build: Build, *more: Build) -> AsyncIterator[World]:
    """Runs services and their workers in memory on one broker, each with its own stores.

        async with memory_world(orders, payments) as world:
            await world.execute(PlaceOrder(order_id="o1", euros=5))
            await world.settle()
            assert await world.query(GetPayment(order_id="o1")) == PaymentView(...)

    Nothing goes wrong unless requested, as with `world.crash()`. Pauses take a hundredth of their
    time. Followed services that are not among them exist as in `chaos`.

    Raises: what `chaos` raises.
    """
    async with _living([build, *more], 0, NO_FAULTS, FastTime(speed=1)) as world:
        yield world


@asynccontextmanager
async def _living(
    builds: Sequence[Build], seed: int, faults: Faults, time: FastTime
) -> AsyncIterator[World]:
    with ambient_source(time):
        town = _Town(seed, faults, time)
        try:
            services = [await town.settled(build) for build in builds]
            owners = [await town.settled(_owner(name)) for name in await town.missing(services)]
            yield World(services, owners, town.rest, time)
            for process in town.processes:
                process.fate.check_reached()
        finally:
            await town.leave()


class _Town:
    """The processes on one ground."""

    def __init__(self, seed: int, faults: Faults, clock: FastTime) -> None:
        self.processes: list[Process] = []
        self._names: set[str] = set()
        self._seed = seed
        self._faults = faults
        broker = HastyBroker(clock)
        self._ground = Ground(broker)
        self.rest = Rest(self._ground, broker, self.processes)

    async def settled(self, build: Build) -> Service:
        """Adds a process, which draws its own faults, and returns its service once it is open."""
        number = len(self.processes)
        fate = Fate(f"{self._seed}/{number}" if number else self._seed, self._faults)
        process = Process(build, fate, self._ground)
        self.processes.append(process)
        bus = await process.opened()
        if bus.service in self._names:
            raise ConfigurationError(
                f"chaos(...) and memory_world(...): two of the functions build a service called "
                f"{bus.service!r}, and services of a world are told apart by their names; give "
                f"each once"
            )
        self._names.add(bus.service)
        return Service(process, bus, self._ground.stores(bus.service))

    async def missing(self, services: list[Service]) -> list[str]:
        """Returns the names of services that are followed but not here."""
        buses = [await service.bus() for service in services]
        followed = {owner for bus in buses for owner in bus.runtime.foreign.owners.values()}
        return sorted(followed - {bus.service for bus in buses})

    async def leave(self) -> None:
        """Ends all processes in good order."""
        for process in self.processes:
            process.fate.end()
        await asyncio.gather(*(process.leave() for process in self.processes))


def _owner(name: str) -> Build:
    """Returns what builds a service of that name, which has only a log and sends its history."""

    def build(settings: Settings) -> Bus:
        return Bus(name, settings=settings)

    return build

"""Services in memory, with everything going wrong that a seed draws, or with nothing of it."""

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
    """Runs a bus and its worker in memory while everything goes wrong that may go wrong.

    Deliveries come late, twice, in any order or not at all; acknowledgements and answers get lost;
    the stores fail; the process dies between two steps and is started again over the same broker
    and the same stores. A seed draws the faults; `faults` says how often which happen.

        async with chaos(build, seed=7) as world:
            await world.execute(OpenAccount(account_id="a1", owner="Ada"))
            await world.settle()
            assert await world.query(GetBalance(account_id="a1")) == BalanceView(...)

    `build` takes settings, and returns a bus that is made with them. With more of them, several
    services meet over one broker, each a process of its own with its own stores and faults. A
    service that is followed and not among them is there all the same, and tells of what
    `world.of(name).given(...)` says.
    Raises: whatever keeps a bus from being built; and AssertionError, on leaving, for a crash that
    was asked for and not met.
    """
    found = Faults() if faults is None else checked(faults)
    async with _living([build, *more], seed, found, FastTime(seed)) as world:
        yield world


@asynccontextmanager
async def memory_world(build: Build, *more: Build) -> AsyncIterator[World]:
    """Runs services and their workers in memory, over one broker, each with stores of its own.

        async with memory_world(orders, payments) as world:
            await world.execute(PlaceOrder(order_id="o1", euros=5))
            await world.settle()
            assert await world.query(GetPayment(order_id="o1")) == PaymentView(...)

    Nothing goes wrong, unless `world.crash()` and the like ask for it. Pauses are a hundredth of
    what they are elsewhere. Followed services that are not there are as in `chaos`.
    Raises: as `chaos`.
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
            services = [await town.settled(one) for one in builds]
            owners = [await town.settled(_owner(one)) for one in await town.missing(services)]
            yield World(services, owners, town.rest, time)
            for process in town.processes:
                process.fate.check_reached()
        finally:
            await town.leave()


class _Town:
    """Processes over one ground."""

    def __init__(self, seed: int, faults: Faults, clock: FastTime) -> None:
        self.processes: list[Process] = []
        self._names: set[str] = set()
        self._seed = seed
        self._faults = faults
        broker = HastyBroker(clock)
        self._ground = Ground(broker)
        self.rest = Rest(self._ground, broker, self.processes)

    async def settled(self, build: Build) -> Service:
        """A process more, once its bus is open. Each has faults of its own."""
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
        """Services that are followed, and are not here."""
        buses = [await one.bus() for one in services]
        followed = {owner for bus in buses for owner in bus.runtime.foreign.owners.values()}
        return sorted(followed - {bus.service for bus in buses})

    async def leave(self) -> None:
        """Ends all of it in good order."""
        for process in self.processes:
            process.fate.end()
        await asyncio.gather(*(process.leave() for process in self.processes))


def _owner(name: str) -> Build:
    """A service of that name, which has nothing but a log, and tells its history."""

    def build(settings: Settings) -> Bus:
        return Bus(name, settings=settings)

    return build

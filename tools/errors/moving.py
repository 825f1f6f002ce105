"""What goes wrong when a log is moved."""

from bus import Bus, clock
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import LogPlace
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.stores.memory.effects import MemoryEffects
from tools.errors.bank import OpenAccount
from tools.errors.commanding import MEMORY
from tools.errors.entries import Section

moving = Section(
    "Moving a log",
    "Told by `bus stores copy`, and by processes whose log went elsewhere. `old` and `new` are "
    "places of a log (here, in memory); [Stores](stores.md) has the way of a move.",
)
SECTIONS = [moving]


def place(name: str) -> LogPlace:
    log = MemoryEventLog()
    effects = MemoryEffects(log, MemoryCollections(), projected=[], handled_for=60)
    return LogPlace(name, log, effects)


def own(bus: Bus) -> LogPlace:
    return LogPlace("MongoDB (database bank)", bus.runtime.event_log, bus.runtime.effects)


def commit(id: str, result: int = 0) -> Commit:
    return Commit(
        id=id,
        stream="account-a1",
        category="account",
        first=1,
        events=(),
        time=clock.now(),
        correlation_id=id,
        result=result,
    )


@moving("StoreUnavailable: the log of 'bank' was moved to postgresql://db/bank, and this one at")
async def a_command_for_a_log_that_went_elsewhere(bus: Bus) -> None:
    old, new = own(bus), place("postgresql://db/bank")
    await LogCopy("bank", old, new).finish()
    await bus.execute(OpenAccount(account_id="a1"))


@moving("ConfigurationError: postgresql://db/shop holds what the log at MongoDB (database bank)")
async def a_place_that_holds_another_log(bus: Bus) -> None:
    old, new = own(bus), place("postgresql://db/shop")
    await new.log.append([commit("theirs")])
    await LogCopy("bank", old, new).follow()


@moving("ConfigurationError: the commit a (stream account-a1, version 1) cannot be copied: the")
async def a_copy_that_differs_from_its_log(bus: Bus) -> None:
    old, new = own(bus), place("postgresql://db/bank")
    await old.log.append([commit("a", result=1)])
    await new.log.append([commit("a", result=2)])
    await LogCopy("bank", old, new).finish()


@moving("ConfigurationError: MongoDB (database bank) and the same are the same log; give")
async def a_log_that_is_moved_to_itself(bus: Bus) -> None:
    old = own(bus)
    await LogCopy("bank", old, old._replace(name="the same")).finish()


@moving(
    "ConfigurationError: MongoDB (database bank) cannot be copied to postgresql://db/other: the"
)
async def a_log_that_went_elsewhere_before(bus: Bus) -> None:
    old, new = own(bus), place("postgresql://db/bank")
    await LogCopy("bank", old, new).finish()
    await LogCopy("bank", old, place("postgresql://db/other")).finish()


@moving("ConfigurationError: the log at postgresql://db/bank has taken commits since it was moved")
async def a_move_that_is_given_up_too_late(bus: Bus) -> None:
    old, new = own(bus), place("postgresql://db/bank")
    await LogCopy("bank", old, new).finish()
    await new.log.append([commit("new")])
    await LogCopy("bank", old, new).abandon()


@moving(
    "ConfigurationError: dead letters are kept with the log at postgresql://db/bank, and do not"
)
async def dead_letters_that_would_be_left_behind(bus: Bus) -> None:
    letters = MemoryControl()
    await letters.add_dead_letter({"_id": "bank.commands/c1/5a1e2b3c"})
    old = place("postgresql://db/bank")._replace(letters=letters)
    await LogCopy("bank", old, place("mysql://db/bank")).finish()


moving.command(
    "A log that is in memory",
    "ConfigurationError: the log of this service is in memory, and no other process reads it",
    "bus stores copy bank:build mongodb postgresql+asyncpg://db/bank",
    **MEMORY,
)
moving.command(
    "A place that is no place",
    "ConfigurationError: there is no place 'nowhere' for a log: write mongodb",
    "bus stores copy bank:build nowhere mongodb",
    **MEMORY,
)
moving.command(
    "A place without a driver",
    "ConfigurationError: the URL of the log names no asynchronous driver: begin it with",
    "bus stores copy bank:build postgresql://db/bank mongodb",
    **MEMORY,
)

"""A service with accounts, the streams that are loaded, and the clock round the loads."""

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from bench.side import Arguments, Metrics
from bus import Aggregate, Bus, Event, Settings
from bus.codec import record
from bus.common import clock
from bus.stores.event_log import Commit, Recorded
from bus.stores.records import commit_document, encoded
from bus.write.snapshots import prepare

NOTE = "x" * 400
SNAPSHOT_EVERY = 100
CHUNK = 2000
SECONDS = 1.5
"""So long each side loads at least, however few loads are asked for."""

Load = Callable[[str], Awaitable[int]]
"""Loads the account with this id; returns how many events it found."""


class Deposited(Event):
    account_id: str
    owner: str
    amount: int
    note: str


class Account(Aggregate):
    owner: str = ""
    deposits: int = 0
    balance: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Deposited():
                self.owner = event.owner
                self.deposits += 1
                self.balance += event.amount


class QuickAccount(Account, category="account", snapshot_every=SNAPSHOT_EVERY):
    """The same with snapshots."""


class StateAccount(Account, category="account", stored="state"):
    """The same by its state."""


def build(service: str) -> Bus:
    return Bus(service, settings=Settings())


async def fill(
    bus: Bus, arguments: Arguments, kind: type[Account] = Account, *, snapshots: bool = False
) -> None:
    """Stores the accounts' streams, with their states if they have any, and with `snapshots` one
    for each that has come so far."""
    await prepare(bus.runtime.event_log, kind)
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        log = client[bus.service]["commits"]
        for number in range(arguments["aggregates"]):
            chunk = []
            for commit in _commits(f"a{number}", arguments):
                chunk.append(_stored(commit))
                if len(chunk) == CHUNK or commit.last == arguments["events"]:
                    await log.insert_many(chunk, ordered=False)
                    chunk = []
            reached = arguments["events"] // SNAPSHOT_EVERY * SNAPSHOT_EVERY
            if snapshots and reached:
                await bus.runtime.event_log.save_snapshot(_snapshot(f"a{number}", reached))
            if kind.storing.by_state:
                await bus.runtime.event_log.save_state(
                    _snapshot(f"a{number}", arguments["events"], kind)
                )
        await client.admin.command("fsync")


def _commits(id: str, arguments: Arguments) -> Iterator[Commit]:
    size = arguments.get("of_a_commit", 1)
    event = record(_deposited(id))
    for first in range(1, arguments["events"] + 1, size):
        yield _commit(f"{id}-{first}", f"account-{id}", first, (event,) * size)


def _commit(id: str, stream: str, first: int, events: tuple[Recorded, ...]) -> Commit:
    time = clock.now()
    return Commit(
        id=id,
        stream=stream,
        category="account",
        first=first,
        events=events,
        time=time,
        correlation_id=id,
        causation_id=id,
        message="Deposit",
    )


def _deposited(id: str) -> Deposited:
    return Deposited(account_id=id, owner="Ada", amount=3, note=NOTE)


def _snapshot(id: str, version: int, kind: type[Account] = QuickAccount) -> Any:
    account = kind(id)
    account.owner, account.deposits, account.balance = "Ada", version, 3 * version
    account.version = version
    return account.to_snapshot()


def _stored(commit: Commit) -> RawBSONDocument:
    document = commit_document(commit)
    del document["pending"]
    return RawBSONDocument(encoded(document))


async def timed(load: Load, arguments: Arguments) -> Metrics:
    """Loads the accounts in turn, after a few loads that do not count."""
    events, aggregates = arguments["events"], arguments["aggregates"]
    for number in range(max(arguments["count"] // 10, 1)):
        await load(f"a{number % aggregates}")
    loads = 0
    start, cpu = time.perf_counter(), time.process_time()
    while loads < arguments["count"] or time.perf_counter() - start < SECONDS:
        if await load(f"a{loads % aggregates}") != events:
            raise SystemExit("an account was not loaded whole")
        loads += 1
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "per_second": loads / seconds,
        "ms_per_load": seconds * 1000 / loads,
        "events_per_second": loads * events / seconds,
        "client_cpu_ms": cpu * 1000 / loads,
    }

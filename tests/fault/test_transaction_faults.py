"""Commands with a session: processes killed in the middle of them, and commits that fail."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from bus import Bus, Receipt, Session, Settings
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.mongo import close
from tests.fault.test_mongo_faults import FAULTS
from tests.service.pricing import Count, Probe, Reprice, all_of, build, versions_of
from tests.waiting import patience, until
from tools.faults import failing
from tools.services.mongodb import MongoNode

ROOT = Path(__file__).parents[2]
REPRICE = Reprice(market="eur", article="a", price=7)
STREAMS = ["article-a", "market-eur", "price_list-eur"]

CRASH = """
import asyncio, os, signal, sys
from bus import Settings
from tests.service.pricing import Probe, Reprice, build

moment, service = sys.argv[1:]

async def main():
    bus = build(Settings(), Probe(), service)

    def die_after(part, method):
        call = getattr(part, method)

        async def and_die(*arguments):
            await call(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(part, method, and_die)

    async with bus:
        if moment == "before the commit":
            die_after(bus.runtime.event_log, "append_within")
        if moment == "after the commit":
            die_after(bus.runtime.effects, "commit")
        await bus.execute(Reprice(market="eur", article="a", price=7), id="k1")

asyncio.run(main())
"""


async def killed(moment: str, settings: Settings, service: str) -> None:
    """Runs a process until it kills itself while it carries the command out."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASH, moment, service, env=environment
    )
    async with asyncio.timeout(30 * patience()):
        assert await process.wait() == -signal.SIGKILL


async def happened(bus: Bus) -> tuple[list[dict[str, Any]], list[int]]:
    """The document that counts changes, and how many events each stream holds."""
    return await all_of(bus, "totals"), [len(await versions_of(bus, name)) for name in STREAMS]


NOTHING: tuple[list[dict[str, Any]], list[int]] = ([], [0, 0, 0])
ONCE = ([{"_id": "all", "changes": 1}], [1, 1, 1])


async def test_a_process_killed_in_the_transaction_leaves_nothing_and_no_lock(
    real_settings: Settings, unique: str
) -> None:
    async with build(real_settings, Probe(), unique) as bus:
        await killed("before the commit", real_settings, unique)
        assert await happened(bus) == NOTHING
        started = time.monotonic()
        receipt = await bus.execute(REPRICE, id="k1")
        assert time.monotonic() - started < 10 * patience()
        assert receipt.versions == dict.fromkeys(STREAMS, 1)
        assert await happened(bus) == ONCE


async def test_what_a_process_killed_after_the_commit_did_is_there_and_is_published(
    real_settings: Settings, unique: str
) -> None:
    probe = Probe()
    async with build(real_settings, probe, unique) as bus:
        await killed("after the commit", real_settings, unique)
        receipt = await bus.execute(REPRICE, id="k1")
        assert receipt == Receipt("k1", dict.fromkeys(STREAMS, 1), 1)
        assert probe.runs == 0
        assert await happened(bus) == ONCE
        pending = await bus.runtime.event_log.pending(bus.runtime.event_log.now(), 10)
        assert sorted(commit.stream for commit in pending) == STREAMS


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def client(request: pytest.FixtureRequest, database: MongoNode) -> AsyncIterator[Any]:
    client = request.param(database.url, serverSelectionTimeoutMS=3000, heartbeatFrequencyMS=500)
    yield client
    await close(client)


@pytest.fixture
async def pricing(
    database: MongoNode, client: Any, unique: str
) -> AsyncIterator[tuple[Bus, Probe]]:
    probe = Probe()
    settings = Settings(amqp_url="memory://", mongo_url=database.url, mongo_db=unique)
    async with build(settings, probe, unique, client=client) as bus:
        yield bus, probe


async def until_done(bus: Bus) -> Receipt:
    """Repeats the command with its id while a service is away."""
    while True:
        try:
            return await bus.execute(REPRICE, id="k1")
        except (StoreUnavailable, OutcomeUnknown):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_command_whose_commit_fails_happens_once(
    database: MongoNode, pricing: tuple[Bus, Probe], fault: str
) -> None:
    bus, _ = pricing
    with failing(database, "commitTransaction", 2, **FAULTS[fault]):
        receipt = await until_done(bus)
    for _ in range(2):
        assert receipt == Receipt("k1", dict.fromkeys(STREAMS, 1), 1)
        assert await happened(bus) == ONCE
        receipt = await bus.execute(REPRICE, id="k1")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_command_without_an_id_whose_commit_fails_says_what_became_of_it(
    database: MongoNode, pricing: tuple[Bus, Probe], fault: str
) -> None:
    """The log is asked for its id before anything is said."""
    bus, _ = pricing
    with failing(database, "commitTransaction", 1, **FAULTS[fault]):
        await bus.execute(REPRICE)
    assert await happened(bus) == ONCE


@pytest.mark.parametrize("command", ["insert", "update", "find"])
async def test_a_command_cut_off_within_its_transaction_happens_once(
    database: MongoNode, pricing: tuple[Bus, Probe], unique: str, command: str
) -> None:
    bus, probe = pricing
    name = "commits" if command == "insert" else "totals"
    fault = {"closeConnection": True, "namespace": f"{unique}.{name}"}

    async def cut_off(session: Session) -> None:
        if probe.runs > 1 or command == "insert":
            return
        with failing(database, command, 1, **fault):
            totals = session.documents("totals")
            await totals.find_one({})
            await totals.update("all", {"$set": {"more": 1}})

    probe.meanwhile = cut_off
    if command == "insert":
        with failing(database, command, 1, **fault):
            await until_done(bus)
    else:
        await until_done(bus)
    assert probe.runs == 2
    assert await happened(bus) == ONCE


async def test_a_session_ended_by_others_is_used_again_and_the_command_happens_once(
    client: Any, pricing: tuple[Bus, Probe]
) -> None:
    """As when a process was silent for a while, and another took it for dead."""
    bus, probe = pricing

    async def end(session: Session) -> None:
        if probe.runs == 1:
            await client.admin.command("killSessions", [session.native.session_id])

    probe.meanwhile = end
    await until_done(bus)
    assert probe.runs == 2
    assert await happened(bus) == ONCE


async def test_many_on_one_document_are_all_carried_out(pricing: tuple[Bus, Probe]) -> None:
    bus, _ = pricing
    await asyncio.gather(*(bus.execute(Count(article="a", pieces=[1])) for _ in range(16)))
    assert await all_of(bus, "stock") == [{"_id": "a", "left": 16}]

    async def none_pending() -> bool:
        log = bus.runtime.event_log
        return not await log.pending(log.now(), 1)

    await until(none_pending, "all marks are cleared")

"""Effects by a session: processes killed in the middle of them, and commits that fail."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from bus import Bus, Session, Settings, Worker
from bus.codec import envelopes_of
from bus.common import clock
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.stores.mongo import close
from tests.fault.test_mongo_faults import FAULTS
from tests.service.mailing import Post, all_of, build, paid_in_total
from tests.service.session_contract import first_booking
from tests.service.wallet import Paid, Pay
from tests.waiting import patience, until
from tools.faults import failing
from tools.services.mongodb import MongoNode

ROOT = Path(__file__).parents[2]

CRASH = """
import asyncio, os, signal, sys
from bus import Settings, Worker, ambient
from tests.service.mailing import Post, build

moment, service = sys.argv[1:]

async def main():
    bus = build(Settings(), Post(), service)

    def die_after(part, method):
        call = getattr(part, method)

        async def and_die(*arguments):
            await call(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(part, method, and_die)

    if moment == "before the commit":
        die_after(bus.runtime.event_log, "append_within")
    if moment == "after the commit":
        die_after(bus.runtime.effects, "once")
    async with bus, Worker(bus, only=["mailing"]):
        await asyncio.sleep(30)

asyncio.run(main())
"""


async def killed(moment: str, settings: Settings, service: str) -> None:
    """Runs a worker until it kills itself while it handles an event."""
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


async def booked(bus: Bus) -> list[int]:
    """The amounts that the ledger holds."""
    commits = await bus.runtime.event_log.read("ledger-a")
    return [event.data["amount"] for commit in commits for event in commit.events]


async def test_a_worker_killed_between_effect_and_commit_leaves_nothing_and_no_lock(
    real_settings: Settings, unique: str
) -> None:
    """Its locks are gone within seconds, whether or not another worker runs."""
    post = Post()
    async with build(real_settings, post, unique) as bus:
        await bus.execute(Pay(wallet_id="a", amount=7))
        await killed("before the commit", real_settings, unique)
        assert await all_of(bus, "mail_queue") == []
        assert await booked(bus) == []
        started = time.monotonic()
        await bus.runtime.event_log.append([first_booking("ledger-a", amount=1)])
        async with Worker(bus, only=["mailing"]):
            await until(lambda: post.done, "the event is handled by the next worker")
            assert time.monotonic() - started < 10 * patience()
        assert await paid_in_total(bus) == 7
        assert await booked(bus) == [1, 7]


async def test_a_worker_killed_between_commit_and_acknowledgement_repeats_nothing(
    real_settings: Settings, unique: str
) -> None:
    post = Post()
    async with build(real_settings, post, unique) as bus:
        await bus.execute(Pay(wallet_id="a", amount=7))
        await killed("after the commit", real_settings, unique)
        pending = await bus.runtime.event_log.pending(clock.now(), 10)
        assert [command.name for commit in pending for command in commit.outgoing] == ["Thank"]
        async with Worker(bus, only=["mailing"]):
            await until(lambda: post.done, "the event is delivered again", within=30)
        assert post.runs == 0
        assert await paid_in_total(bus) == 7
        assert await booked(bus) == [7]


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def client(request: pytest.FixtureRequest, database: MongoNode) -> AsyncIterator[Any]:
    client = request.param(database.url, serverSelectionTimeoutMS=3000, heartbeatFrequencyMS=500)
    yield client
    await close(client)


@pytest.fixture
async def handling(
    database: MongoNode, client: Any, unique: str
) -> AsyncIterator[tuple[Bus, Post, Callable[[], Any]]]:
    """A bus, its post, and what handles one event, over again while a service is away."""
    post = Post()
    settings = Settings(amqp_url="memory://", mongo_url=database.url, mongo_db=unique)
    async with build(settings, post, unique, client=client) as bus:
        await bus.execute(Pay(wallet_id="a", amount=7))
        (commit,) = await bus.runtime.event_log.read("wallet-a")
        (envelope,) = envelopes_of(commit, {"Paid": Paid})

        async def handle() -> None:
            while True:
                with suppress(StoreUnavailable, OutcomeUnknown):
                    return await bus.runtime.dispatcher.handle("mailing", envelope)

        yield bus, post, handle


Handling = tuple[Bus, Post, Callable[[], Any]]


async def until_published(bus: Bus) -> None:
    """Until no mark is left to be cleared: that is an update too."""

    async def none_pending() -> bool:
        return not await bus.runtime.event_log.pending(bus.runtime.event_log.now(), 1)

    await until(none_pending, "what was stored is published")


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_effect_whose_commit_fails_happens_once(
    database: MongoNode, handling: Handling, fault: str
) -> None:
    bus, _, handle = handling
    with failing(database, "commitTransaction", 2, **FAULTS[fault]):
        await handle()
    for _ in range(2):
        assert await paid_in_total(bus) == 7
        assert await booked(bus) == [7]
        await handle()


async def test_an_effect_that_is_refused_for_now_leaves_neither_effect_nor_events(
    database: MongoNode, handling: Handling
) -> None:
    bus, _, _ = handling
    (commit,) = await bus.runtime.event_log.read("wallet-a")
    (envelope,) = envelopes_of(commit, {"Paid": Paid})
    await until_published(bus)
    with failing(database, "update", 1, errorCode=14031), pytest.raises(StoreUnavailable):
        await bus.runtime.dispatcher.handle("mailing", envelope)
    assert await paid_in_total(bus) == 0
    assert await booked(bus) == []
    await bus.runtime.dispatcher.handle("mailing", envelope)
    assert await booked(bus) == [7]


@pytest.mark.parametrize("command", ["update", "find"])
async def test_an_effect_cut_off_within_its_transaction_happens_once(
    database: MongoNode, handling: Handling, unique: str, command: str
) -> None:
    bus, post, handle = handling
    fault = {"closeConnection": True, "namespace": f"{unique}.mail_queue"}

    async def cut_off(session: Session) -> None:
        if post.runs > 1:
            return
        with failing(database, command, 1, **fault):
            documents = session.documents("mail_queue")
            await documents.find({})
            await documents.update("further", {"$set": {"copies": 1}})

    post.meanwhile = cut_off
    await handle()
    assert post.runs == 2
    assert len(await all_of(bus, "mail_queue")) == 1
    assert await paid_in_total(bus) == 7
    assert await booked(bus) == [7]


async def test_a_session_ended_by_others_is_used_again_and_the_effect_happens_once(
    client: Any, handling: Handling
) -> None:
    """As when a process was silent for a while, and another took it for dead."""
    bus, post, handle = handling

    async def end(session: Session) -> None:
        if post.runs == 1:
            await client.admin.command("killSessions", [session.native.session_id])

    post.meanwhile = end
    await handle()
    assert post.runs == 2
    assert await paid_in_total(bus) == 7
    assert await booked(bus) == [7]

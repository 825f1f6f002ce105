"""What MongoDB and the network do to the stores, on a database of our own."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from bus.errors import ConfigurationError, NotAllowed, OutcomeUnknown, StoreUnavailable
from bus.stores.collections import Target
from bus.stores.event_log import Commit
from bus.stores.mongo import MongoCollections, MongoEventLog, close
from bus.testing.contracts.documents.documents_contract import all_of, counting
from bus.testing.contracts.event_log_contract import commit, outcome
from tests.waiting import patience, until
from tools.faults import Proxy, failing
from tools.services.mongodb import MongoNode, program
from tools.services.ports import LOOPBACK, answers, free_ports

Connect = Callable[..., Any]
Opened = Callable[..., Awaitable[MongoEventLog]]

IN_CHECKPOINTS = Target("board", "board", False)
BOUND = 20.0


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connects a driver: to a URL, with its options."""
    clients: list[Any] = []

    def connected(url: str, **options: Any) -> Any:
        bounds = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 2000}
        clients.append(request.param(url, heartbeatFrequencyMS=500, **(bounds | options)))
        return clients[-1]

    yield connected
    for client in clients:
        await close(client)


@pytest.fixture
async def opened(connect: Connect, unique: str) -> AsyncIterator[Opened]:
    """Opens a log: by a URL, with the driver's options."""
    async with AsyncExitStack() as stack:

        async def opened(url: str, **options: Any) -> MongoEventLog:
            log = MongoEventLog(connect(url, **options), unique)
            await log.open()
            stack.push_async_callback(log.close)
            return log

        yield opened


@pytest.fixture
async def log(database: MongoNode, opened: Opened) -> MongoEventLog:
    return await opened(database.url)


@pytest.fixture
async def collections(database: MongoNode, connect: Connect, unique: str) -> MongoCollections:
    collections = MongoCollections(connect(database.url), unique)
    await collections.open()
    await collections.prepare(IN_CHECKPOINTS)
    return collections


@pytest.fixture
async def proxy(database: MongoNode) -> AsyncIterator[Proxy]:
    async with Proxy(database.url) as proxy:
        yield proxy


@pytest.mark.parametrize("retry", [True, False], ids=["driver retries", "driver does not"])
async def test_an_insert_cut_after_it_was_written_is_stored_once(
    proxy: Proxy, opened: Opened, retry: bool
) -> None:
    log = await opened(proxy.url, retryWrites=retry)
    proxy.lose_answers(b"insert\0", 2)
    commits = [commit("a")]
    assert await log.append(commits) is commits
    assert proxy.answers_lost
    assert await log.read("job-1") == commits


async def test_an_insert_without_an_answer_is_stored_once(proxy: Proxy, opened: Opened) -> None:
    log = await opened(proxy.url, retryWrites=False)
    proxy.lose_answers(b"insert\0", 1, silently=True)
    commits = [commit("a")]
    assert await log.append(commits) is commits
    assert proxy.answers_lost
    assert await log.read("job-1") == commits


async def test_of_a_group_cut_after_it_was_written_each_gets_its_own_outcome(
    proxy: Proxy, opened: Opened
) -> None:
    log = await opened(proxy.url, retryWrites=False)
    await log.append([commit("old", "old-1")])
    await log.append([commit("taken", "taken-1")])
    mixed = [
        *[("stored", commit(f"new{n}", f"new-{n}")) for n in range(50)],
        *[("repeat of {'version': 1}", commit("old", f"x-{n}", 9)) for n in range(50)],
        *[("ConcurrencyError", commit(f"late{n}", "taken-1")) for n in range(50)],
    ]
    proxy.lose_answers(b"insert\0", 2)
    got = await asyncio.gather(*[outcome(log, [one]) for _, one in mixed])
    assert proxy.answers_lost
    assert got == [kind for kind, _ in mixed]
    assert len(await log.read("new-7")) == 1


async def test_several_streams_cut_in_the_commit_are_stored_once(
    proxy: Proxy, opened: Opened
) -> None:
    log = await opened(proxy.url)
    proxy.lose_answers(b"commitTransaction\0", 2)
    commits = [commit("a", "job-1"), commit("a/2", "job-2")]
    assert await log.append(commits) is commits
    assert proxy.answers_lost
    assert await log.find("a") == commits


FAULTS: dict[str, dict[str, Any]] = {
    "transient": {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
    "unknown": {"errorCode": 91, "errorLabels": ["UnknownTransactionCommitResult"]},
    "cut": {"closeConnection": True},
    "not durable": {"writeConcernError": {"code": 64, "errmsg": "waited long enough"}},
}


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_batch_whose_commit_fails_is_applied_once(
    database: MongoNode, collections: MongoCollections, fault: str, times: int
) -> None:
    writer = collections.writer(IN_CHECKPOINTS, "queue")
    with failing(database, "commitTransaction", times, **FAULTS[fault]):
        for version in range(1, 6):
            await writer.transact(["job-a"], counting(version))
    await writer.close()
    assert await all_of(collections, IN_CHECKPOINTS) == [{"_id": "a", "n": 5}]
    assert await collections.versions(IN_CHECKPOINTS, ["job-a"]) == {"job-a": 5}


@pytest.mark.parametrize("fault", FAULTS)
async def test_several_streams_whose_commit_fails_are_stored_once(
    database: MongoNode, log: MongoEventLog, fault: str
) -> None:
    with failing(database, "commitTransaction", 3, **FAULTS[fault]):
        commits = [commit("a", "job-1"), commit("a/2", "job-2")]
        assert await log.append(commits) is commits
    assert await log.find("a") == commits


@pytest.mark.parametrize(
    "fault",
    [
        FAULTS["not durable"],
        FAULTS["cut"],
        {"errorCode": 11600},
        {"errorCode": 50},
        {"errorCode": 189},
    ],
    ids=["not durable", "cut", "shut down", "time limit", "stepped down"],
)
async def test_an_insert_that_fails_for_now_is_stored_once(
    database: MongoNode, log: MongoEventLog, fault: dict[str, Any]
) -> None:
    with failing(database, "insert", 4, **fault):
        commits = [commit("a")]
        assert await log.append(commits) is commits
    assert await log.read("job-1") == commits


async def test_a_refused_user_is_told_so(database: MongoNode, log: MongoEventLog) -> None:
    refused = pytest.raises(NotAllowed, match="user")
    with failing(database, "insert", 4, errorCode=13), refused:
        await log.append([commit("a")])


async def settled(log: MongoEventLog, commits: list[Commit]) -> list[Commit]:
    """Repeats an append with the same id until its outcome is known."""
    while True:
        try:
            return list(await log.append(commits))
        except (OutcomeUnknown, StoreUnavailable):
            await asyncio.sleep(0.05)


async def within_bound(call: Awaitable[Any]) -> BaseException | None:
    """The error that a call ends with, in time."""
    started = time.monotonic()
    result: Any = (await asyncio.gather(call, return_exceptions=True))[0]
    assert time.monotonic() - started < BOUND * patience()
    return result if isinstance(result, BaseException) else None


async def test_while_the_primary_is_frozen_nothing_hangs_and_the_same_id_settles_it(
    database: MongoNode, opened: Opened, collections: MongoCollections
) -> None:
    """So late does the log's driver notice it by itself that it sends what it is asked to."""
    log = await opened(database.url, connectTimeoutMS=1000 * BOUND)
    writer = collections.writer(IN_CHECKPOINTS, "queue")
    await writer.transact(["job-a"], counting(1))
    await log.append([commit("warm", "warm-1")])
    await asyncio.to_thread(database.pause)
    try:
        errors = await asyncio.gather(
            within_bound(log.append([commit("a")])),
            within_bound(log.append([commit("b", "job-1"), commit("b/2", "job-2")])),
            within_bound(log.read("warm-1")),
            within_bound(anext(aiter(log.events("warm-1")))),
            within_bound(collections.documents(IN_CHECKPOINTS).find({})),
            within_bound(writer.transact(["job-a"], counting(2))),
        )
    finally:
        await asyncio.to_thread(database.resume)
    assert isinstance(errors[0], OutcomeUnknown)
    assert [type(error) for error in errors[1:5]] == [StoreUnavailable] * 4
    assert isinstance(errors[5], StoreUnavailable | OutcomeUnknown)
    assert await settled(log, [commit("a")]) == [commit("a")]
    assert await log.read("job-1") == [commit("a")]

    async def applied() -> bool:
        with suppress(StoreUnavailable, OutcomeUnknown):
            await writer.transact(["job-a"], counting(2))
            return True
        return False

    await until(applied, "the batch is applied")
    assert await all_of(collections, IN_CHECKPOINTS) == [{"_id": "a", "n": 2}]
    await writer.close()


async def test_what_is_not_sent_to_a_primary_known_to_be_frozen_is_told_as_not_stored(
    database: MongoNode, connect: Connect, unique: str
) -> None:
    client = connect(database.url)
    log = MongoEventLog(client, unique)
    await log.append([commit("warm", "warm-1")])
    native = client.delegate if isinstance(client, AsyncIOMotorClient) else client
    await asyncio.to_thread(database.pause)
    try:
        await until(
            lambda: not native.topology_description.has_writable_server(), "the driver knows"
        )
        assert isinstance(await within_bound(log.append([commit("a")])), StoreUnavailable)
    finally:
        await asyncio.to_thread(database.resume)

    async def answers_again() -> bool:
        return await within_bound(log.read("job-1")) is None

    await until(answers_again, "it answers again")
    assert await log.read("job-1") == []


async def test_appends_while_the_primary_is_killed_are_stored_exactly_once(
    database: MongoNode, log: MongoEventLog
) -> None:
    commits = [commit(f"c{n}", f"job-{n % 40}", n // 40 + 1) for n in range(400)]

    async def stream(start: int) -> None:
        for one in commits[start::40]:
            assert await settled(log, [one]) == [one]

    appending = asyncio.gather(*[stream(start) for start in range(40)])
    for _ in range(2):
        await asyncio.sleep(0.05)
        await asyncio.to_thread(database.kill)
        await asyncio.to_thread(database.start)
    await asyncio.wait_for(appending, 60)
    for start in range(40):
        assert await log.read(f"job-{start}") == commits[start::40]


async def test_batches_while_the_primary_is_killed_are_applied_exactly_once(
    database: MongoNode, collections: MongoCollections
) -> None:
    writer = collections.writer(IN_CHECKPOINTS, "queue")
    done = asyncio.Event()
    reached = 0

    async def apply() -> None:
        nonlocal reached
        while not done.is_set() or reached < 50:
            with suppress(StoreUnavailable, OutcomeUnknown):
                await writer.transact(["job-a"], counting(reached + 1))
                reached += 1

    applying = asyncio.create_task(apply())
    for _ in range(2):
        await until(lambda: reached > 5, "some batches are applied")
        await asyncio.to_thread(database.kill)
        await asyncio.to_thread(database.start)
    done.set()
    await asyncio.wait_for(applying, 60)
    assert await all_of(collections, IN_CHECKPOINTS) == [{"_id": "a", "n": reached}]
    await writer.close()


@pytest.fixture(scope="module")
def standalone_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without a replica set."""
    folder = tmp_path_factory.mktemp("standalone")
    (port,) = free_ports(1)
    options = [f"--dbpath={folder}", f"--port={port}", f"--bind_ip={LOOPBACK}", "--nounixsocket"]
    with subprocess.Popen([program()[0], *options], stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 30
        while not answers(LOOPBACK, port) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"mongodb://{LOOPBACK}:{port}"
        server.kill()


async def test_a_standalone_server_serves_commands_on_one_stream_and_says_what_else_needs(
    standalone_url: str, connect: Connect, opened: Opened, unique: str
) -> None:
    log = await opened(standalone_url)
    commits = [commit("a")]
    assert await log.append(commits) is commits
    assert await log.append([commit("a", first=2)]) == commits
    assert await log.read("job-1") == commits
    with pytest.raises(ConfigurationError, match="replSet"):
        await log.append([commit("b", "job-2"), commit("b/2", "job-3")])
    with pytest.raises(ConfigurationError, match="replSet"):
        await anext(log.follow(1))
    with pytest.raises(ConfigurationError, match="replSet"):
        await MongoCollections(connect(standalone_url), unique).open()


async def test_a_server_that_is_away_is_unavailable_at_once(connect: Connect, unique: str) -> None:
    (port,) = free_ports(1)
    client = connect(f"mongodb://{LOOPBACK}:{port}/")
    log = MongoEventLog(client, unique)
    calls = (log.open(), log.append([commit("a")]), MongoCollections(client, unique).open())
    for error in await asyncio.gather(*map(within_bound, calls)):
        assert isinstance(error, StoreUnavailable)

"""What an error of the store says is so, whatever the server answers and whenever."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from bus.common.tasks import end
from bus.errors import BusError, InvalidMessage, OutcomeUnknown, StoreUnavailable
from bus.stores.collections import Target
from bus.stores.event_log import Commit
from bus.stores.mongo import MongoCollections, MongoEventLog, close
from bus.testing.contracts.documents.documents_contract import all_of, counting
from bus.testing.contracts.event_log_contract import commit
from bus.testing.contracts.states_contract import with_state
from tests.waiting import patience, until
from tools.faults import failing
from tools.services.mongodb import MongoNode

ROOT = Path(__file__).parents[2]
BOARD = Target("board", "board", False)

ANSWERS: list[dict[str, Any]] = [
    *({"errorCode": code} for code in (1, 8, 13, 18, 20, 24, 46, 50, 91, 100, 112, 133)),
    *({"errorCode": code} for code in (189, 202, 215, 251, 263, 371, 11601, 11602, 12587, 14031)),
    *({"writeConcernError": {"code": code, "errmsg": "so"}} for code in (64, 79, 91, 100)),
    *({"writeConcernError": {"code": code, "errmsg": "so"}} for code in (11601, 14031)),
    {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
    {"errorCode": 91, "errorLabels": ["UnknownTransactionCommitResult"]},
    {"closeConnection": True},
]


class Overheard(CommandListener):
    """The sessions that commands ran in, and those that were ended, in their order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "killSessions":
            self.seen += [("ended", one["id"]) for one in event.command["killSessions"]]
        elif "lsid" in event.command:
            self.seen.append((event.command_name, event.command["lsid"]["id"]))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Of no interest."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Of no interest."""

    @property
    def commands(self) -> set[str]:
        return {name for name, _ in self.seen}

    def ended(self) -> set[Any]:
        return {id for name, id in self.seen if name == "ended"}

    def used_after_their_end(self) -> list[tuple[str, Any]]:
        ended: set[Any] = set()
        used = []
        for name, id in self.seen:
            if name == "ended":
                ended.add(id)
            elif id in ended:
                used.append((name, id))
        return used


@pytest.fixture
def overheard() -> Overheard:
    return Overheard()


@pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
async def client(
    request: pytest.FixtureRequest, database: MongoNode, overheard: Overheard
) -> AsyncIterator[Any]:
    bounds = {"serverSelectionTimeoutMS": 3000, "heartbeatFrequencyMS": 500}
    client = request.param(database.url, event_listeners=[overheard], **bounds)
    yield client
    await close(client)


@pytest.fixture
async def log(client: Any, unique: str) -> AsyncIterator[MongoEventLog]:
    log = MongoEventLog(client, unique)
    await log.open()
    yield log
    await log.close()


@pytest.fixture
def outsider(database: MongoNode, unique: str) -> Iterator[Any]:
    """The database as it is, by another client."""
    with MongoClient[dict[str, Any]](database.url) as client:
        yield client[unique]


def stored(outsider: Any, commits: list[Commit]) -> int:
    return int(outsider.commits.count_documents({"_id": {"$in": [one.id for one in commits]}}))


async def word_on(log: MongoEventLog, commits: list[Commit]) -> type[Exception] | None:
    """What an append says of itself."""
    try:
        await log.append(commits)
    except (StoreUnavailable, OutcomeUnknown, InvalidMessage) as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("command", "times"), [("insert", 1), ("insert", 4), ("commitTransaction", 2)]
)
async def test_an_append_says_what_became_of_it(
    database: MongoNode, log: MongoEventLog, outsider: Any, command: str, times: int
) -> None:
    for number, answer in enumerate(ANSWERS):
        appends = [[commit(f"{number}{name}", f"{name}-{number}")] for name in ("one", "other")]
        appends += [[commit(f"{number}s", f"a-{number}"), commit(f"{number}s/2", f"b-{number}")]]
        appends += [[with_state(1, f"job-{number}{name}")] for name in ("one", "other", "third")]
        with failing(database, command, times, **answer):
            words = await asyncio.gather(*(word_on(log, commits) for commits in appends))
        for word, commits in zip(words, appends, strict=True):
            check_word(word, stored(outsider, commits), len(commits), answer)
            assert await log.append(commits) == commits, answer
            assert stored(outsider, commits) == len(commits)


def check_word(word: type[Exception] | None, count: int, all: int, answer: Any) -> None:
    """No answer of the server's here is about what was to be stored."""
    assert word is not InvalidMessage, answer
    if word is None:
        assert count == all, answer
    elif issubclass(word, StoreUnavailable):
        assert count == 0, answer


async def test_a_repeat_that_cannot_be_looked_up_does_not_say_that_nothing_was_stored(
    database: MongoNode, log: MongoEventLog
) -> None:
    several = pair(1)
    await log.append(several)
    with failing(database, "find", 1000, errorCode=8):
        assert await word_on(log, several) is OutcomeUnknown


async def test_a_commit_that_is_never_confirmed_is_looked_up_in_the_log(
    database: MongoNode, log: MongoEventLog, outsider: Any
) -> None:
    commits = [commit("a", "job-1"), commit("a/2", "job-2")]
    not_durable = {"writeConcernError": {"code": 100, "errmsg": "so"}}
    with failing(database, "commitTransaction", 10_000, **not_durable):
        assert await word_on(log, commits) is None
    assert stored(outsider, commits) == 2


@pytest.mark.parametrize("fault", ["not durable", "full disk", "unknown"])
async def test_a_batch_of_a_projection_is_applied_once_whatever_its_commit_answers(
    database: MongoNode, client: Any, unique: str, fault: str
) -> None:
    answers: dict[str, dict[str, Any]] = {
        "not durable": {"writeConcernError": {"code": 11601, "errmsg": "so"}},
        "full disk": {"errorCode": 14031},
        "unknown": {"errorCode": 8},
    }
    collections = MongoCollections(client, unique)
    await collections.open()
    await collections.prepare(BOARD)
    writer = collections.writer(BOARD, "queue")
    with failing(database, "commitTransaction", 3, **answers[fault]):
        for version in range(1, 4):
            await writer.transact(["job-a"], counting(version))
    await writer.close()
    assert await all_of(collections, BOARD) == [{"_id": "a", "n": 3}]


async def test_a_writer_that_is_cancelled_and_closed_leaves_no_transaction(
    database: MongoNode, client: Any, unique: str, outsider: Any
) -> None:
    """Its locks would stand for a minute, and nobody may come after it who ends it."""
    collections = MongoCollections(client, unique)
    await collections.open()
    await collections.prepare(BOARD)
    writer = collections.writer(BOARD, "queue")
    folding = asyncio.Event()

    async def fold(_: Any) -> Any:
        folding.set()
        await asyncio.Event().wait()

    transacting = asyncio.create_task(writer.transact(["job-a"], fold))
    await folding.wait()
    assert transactions(outsider) == 1
    await end([transacting])
    await writer.close()
    assert transactions(outsider) == 0
    assert outsider.writers.count_documents({"_id": "queue"}) == 0


def transactions(outsider: Any) -> int:
    """How many are open at the server."""
    told = outsider.client.admin.aggregate(
        [
            {"$currentOp": {"allUsers": True, "idleSessions": True}},
            {"$match": {"transaction": {"$exists": True}}},
        ]
    )
    return len(list(told))


async def test_documents_that_are_not_durable_yet_are_not_taken_for_refused(
    database: MongoNode, client: Any, unique: str
) -> None:
    collections = MongoCollections(client, unique)
    await collections.open()
    await collections.prepare(BOARD)
    fault = {"writeConcernError": {"code": 64, "errmsg": "so"}}
    with failing(database, "insert", 3, **fault), pytest.raises(OutcomeUnknown):
        await collections.insert(BOARD, [{"_id": "a"}])


async def test_a_session_that_failed_is_ended_and_nobody_else_ever_has_it(
    database: MongoNode, log: MongoEventLog, overheard: Overheard
) -> None:
    """Ended after the driver lent it to somebody else, it took that one's work with it."""
    commits = [commit("a", "job-1"), commit("a/2", "job-2")]
    blocked = {"blockConnection": True, "blockTimeMS": 5000}
    with failing(database, "commitTransaction", 3, **blocked):
        appending = asyncio.create_task(log.append(commits))
        await until(
            lambda: any(name == "commitTransaction" for name, _ in overheard.seen), "commit"
        )
        await end([appending], patience=0.2)  # PyMongo may take the first one for a lost wire
        assert appending.cancelled()
        await asyncio.gather(*(log.append([commit(f"b{n}", f"b-{n}")]) for n in range(20)))
    (own,) = {id for name, id in overheard.seen if name == "commitTransaction"}
    await until(lambda: own in overheard.ended(), "the session is ended")
    await asyncio.gather(*(log.append(pair(n)) for n in range(40)))
    assert overheard.used_after_their_end() == []
    assert await log.append(commits) == commits


def pair(number: int) -> list[Commit]:
    """Two commits of one command."""
    id, stream = f"pair{number}", f"left-{number}"
    return [commit(id, stream), commit(f"{id}/2", f"right-{number}")]


async def test_a_process_leaves_no_session_of_its_transactions_to_the_driver(
    client: Any, log: MongoEventLog, outsider: Any, overheard: Overheard
) -> None:
    """Others may take it for dead and end them, late."""
    await asyncio.gather(*map(log.append, map(pair, range(20))))
    (process,) = outsider.writers.find({})
    assert 1 <= len(process["sessions"]) <= 16
    await log.close()
    assert outsider.writers.count_documents({}) == 0
    assert overheard.ended() == set(process["sessions"])
    await client.admin.command("ping")
    assert overheard.used_after_their_end() == []


async def test_what_waits_for_a_lock_holds_up_nobody_else(
    database: MongoNode, log: MongoEventLog, outsider: Any
) -> None:
    """Neither conflicts of commands on several streams, of which there are more than slots, nor
    those on one stream, which the server itself lets wait. The lock stands until others are done.
    """
    with outsider.client.start_session() as holder, holder.start_transaction():
        lock = {"_id": "lock", "stream": "left-0", "first": 1, "category": "left", "time": 1}
        outsider.commits.insert_one(lock, session=holder)
        held = [[commit("alone", "left-0")], [with_state(1, "left-0")]]
        held += [[commit(f"h{n}", "left-0"), commit(f"h{n}/2", f"h-{n}")] for n in range(20)]
        waiting = [asyncio.create_task(word_of(log, commits)) for commits in held]
        for round in range(2):
            await asyncio.gather(
                *(log.append([commit(f"o{round}/{n}x", f"o-{round}{n}")]) for n in range(10)),
                *(log.append(pair(round * 10 + n + 1)) for n in range(10)),
                *(log.append([with_state(1, f"job-{round}{n}")]) for n in range(10)),
            )
        holder.abort_transaction()
    words = await asyncio.gather(*waiting)
    assert words.count("stored") <= 1
    assert outsider.commits.count_documents({"stream": "left-0"}) <= 1


async def word_of(log: MongoEventLog, commits: list[Commit]) -> str:
    try:
        await log.append(commits)
    except BusError as error:
        return type(error).__name__
    return "stored"


CRASH = """
import asyncio, os, signal, sys
from pymongo import AsyncMongoClient
from bus.stores.mongo import MongoEventLog
from bus.testing.contracts.event_log_contract import commit
from bus.testing.contracts.states_contract import with_state

url, database = sys.argv[1:]

async def main():
    log = MongoEventLog(AsyncMongoClient(url), database)
    await log.open()
    insert = log._insert

    async def insert_and_die(*arguments):
        await insert(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    log._insert = insert_and_die
    await log.append([commit("dead", "left-0"), commit("dead/2", "right-0")])

asyncio.run(main())
"""


async def test_what_a_killed_process_locked_is_free_within_seconds(
    database: MongoNode, log: MongoEventLog, unique: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CRASH, database.url, unique),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    async with asyncio.timeout(60 * patience()):
        assert await process.wait() == -signal.SIGKILL
    waiting = asyncio.gather(
        log.append([commit("next", "left-0")]), log.append(other_of("right-0"))
    )
    await asyncio.gather(*(log.append(pair(n + 1)) for n in range(20)))
    await waiting
    assert await log.find("dead") == []


def other_of(stream: str) -> list[Commit]:
    return [commit("several", stream), commit("several/2", "further-0")]

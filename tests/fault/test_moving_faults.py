"""Moving a log while things break: killed, frozen, away. Another run makes it good, and at no time
do both logs take commits."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bus.common import clock
from bus.errors import BusError, StoreUnavailable
from bus.operate import log_copy
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import LogPlace
from bus.stores import mongo, sql
from bus.stores.event_log import StoredCommit
from bus.testing.contracts.event_log_contract import commit
from tests.databases import drop
from tests.fault.moving_at import STEPS
from tests.fault.places import opened
from tests.servers import lent, revive
from tests.waiting import patience, until
from tools.services import MongoNode, statements
from tools.services.node import Node
from tools.services.sql_node import SQLNode

ROOT = Path(__file__).parents[2]
COUNT = 3000


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copy, "GRACE", timedelta(seconds=1))
    monkeypatch.setattr(log_copy, "PUBLISHED_WITHIN", 0.5)
    for module in (mongo.log, mongo.log_queries, sql.log):
        monkeypatch.setattr(module, "COUNT_WITHIN", 5.0)


PAIRS = [
    ("mongodb", "mongodb"),
    ("mongodb", "postgresql"),
    ("postgresql", "mariadb"),
    ("mariadb", "mongodb"),
]


@pytest.fixture(params=PAIRS[:1], ids="-".join)
async def words(
    request: pytest.FixtureRequest, mongo_url: str, unique: str
) -> AsyncIterator[tuple[str, str]]:
    """Two places for a log, the first with one in it."""
    names = f"{unique}_old", f"{unique}_new"
    old, new = (
        f"{mongo_url} {name}" if kind == "mongodb" else request.getfixturevalue(f"{kind}_url")
        for kind, name in zip(request.param, names, strict=True)
    )
    async with opened(old) as place:
        await fill(place)
    yield old, new
    await drop(mongo_url, *names)


between_stores = pytest.mark.parametrize("words", PAIRS, indirect=True, ids="-".join)


async def fill(place: LogPlace) -> None:
    began = clock.now() - timedelta(hours=1)
    times = (began + timedelta(milliseconds=n) for n in range(COUNT))
    commits = [commit(f"c{n}", f"job-{n % 9}", n // 9 + 1, time=t) for n, t in enumerate(times)]
    await place.log.import_commits([StoredCommit(one, False) for one in commits])


async def everything(place: LogPlace) -> list[StoredCommit]:
    return [stored async for stored in place.log.every()]


async def takes(place: LogPlace) -> bool:
    try:
        id = clock.new_id()
        await place.log.append([commit(id, f"tried-{id}", time=clock.now())])
    except StoreUnavailable:
        return False
    return True


@asynccontextmanager
async def process(what: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "tests.fault.moving_at", what, "jobs", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


@between_stores
@pytest.mark.parametrize("step", [*STEPS])
async def test_a_move_that_is_killed_is_finished_by_the_next_run(
    step: str, words: tuple[str, str]
) -> None:
    async with process(step, *words) as running, asyncio.timeout(60 * patience()):
        assert await running.wait() == -signal.SIGKILL
    async with opened(words[0]) as old, opened(words[1]) as new:
        is_moved = step == "letting"
        assert await takes(old) is (step == "copying")
        assert await takes(new) is is_moved
        assert (await LogCopy("jobs", old, new).finish()).state == "moved"
        assert await takes(new)
        assert not await takes(old)
        here = {stored.commit.id for stored in await everything(new)}
        assert {stored.commit.id for stored in await everything(old)} <= here


@pytest.mark.parametrize("step", ["copying", "fencing", "fenced"])
async def test_a_move_that_was_killed_can_be_given_up(step: str, words: tuple[str, str]) -> None:
    async with process(step, *words) as running, asyncio.timeout(60 * patience()):
        assert await running.wait() == -signal.SIGKILL
    async with opened(words[0]) as old, opened(words[1]) as new:
        assert (await LogCopy("jobs", old, new).abandon()).state == "stays"
        assert await takes(old)
        assert not await takes(new)


@between_stores
async def test_a_process_that_was_frozen_before_the_fence_cannot_write_after_it(
    words: tuple[str, str],
) -> None:
    async with process("writing", *words) as writing, opened(words[0]) as old:
        assert writing.stdout is not None
        for _ in range(20):
            await writing.stdout.readline()
        writing.send_signal(signal.SIGSTOP)
        async with opened(words[1]) as new:
            assert (await LogCopy("jobs", old, new).finish()).state == "moved"
            moved = await everything(new)
            writing.send_signal(signal.SIGCONT)
            said = (await writing.communicate())[0].decode()
            assert "refused: the log of 'jobs' was moved to" in said
            assert await everything(old) == await everything(new) == moved


@pytest.fixture(scope="module")
def other_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with lent(MongoNode(tmp_path_factory.mktemp("other"))) as node:
        yield node


@pytest.fixture
def other(other_of_module: MongoNode) -> MongoNode:
    revive(other_of_module)
    return other_of_module


@pytest.mark.parametrize("frozen", ["old", "new"])
async def test_a_database_that_is_away_while_copying_delays_the_move(
    frozen: str, words: tuple[str, str], other: MongoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round, the log is copied back from the node that freezes."""
    away = f"{other.url} {clock.new_id()}"
    monkeypatch.setattr(log_copy, "MOST_COMMITS", 100)
    async with opened(words[0]) as home, opened(away) as new:
        ends = home, new
        if frozen == "old":
            await LogCopy("jobs", home, new).finish()
            async with opened(words[1]) as third:
                await interrupted(new, third, other)
                assert (await LogCopy("jobs", new, third).finish()).state == "moved"
                assert await everything(third) == await everything(home)
            return
        await interrupted(*ends, other)
        assert await takes(home)
        assert (await LogCopy("jobs", home, new).finish()).state == "moved"
        assert await everything(new) == await everything(home)


async def interrupted(old: LogPlace, new: LogPlace, node: MongoNode) -> None:
    """Copies, and freezes a node on the way."""
    reported: list[int] = []

    def report(phase: str, done: int, of: int) -> None:
        reported.append(done)
        if len(reported) == 2:
            node.pause()

    try:
        with pytest.raises(BusError):
            await LogCopy("jobs", old, new, report).follow()
    finally:
        node.resume()
    await until(lambda: reachable(new), "the node answers again")
    await until(lambda: reachable(old), "the node answers again")


async def reachable(place: LogPlace) -> bool:
    try:
        await place.log.newest()
    except BusError:
        return False
    return True


async def test_a_new_database_that_is_away_behind_the_fence_lets_the_old_one_go_on(
    words: tuple[str, str], other: MongoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"{other.url} {clock.new_id()}"
    await is_away_behind_the_fence(words[0], away, other, monkeypatch)


async def test_a_new_sql_server_that_is_away_behind_the_fence_lets_the_old_one_go_on(
    words: tuple[str, str], sql_node: SQLNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = statements.create_database(sql_node.url, "away")
    await is_away_behind_the_fence(words[0], away, sql_node, monkeypatch)


async def is_away_behind_the_fence(
    home: str, away: str, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(home) as old, opened(away) as new:
        copying = LogCopy("jobs", old, new)
        published = copying._published

        async def freeze() -> None:
            node.pause()
            await published()

        monkeypatch.setattr(copying, "_published", freeze)
        try:
            with pytest.raises(BusError):
                await copying.finish()
            assert await takes(old)
        finally:
            node.resume()
        await until(lambda: reachable(new), "the node answers again")
        assert (await LogCopy("jobs", old, new).finish()).state == "moved"
        assert await everything(new) == await everything(old)

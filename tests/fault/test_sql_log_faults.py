"""An event log in SQL while its server breaks: nothing told as stored is lost, nothing is told that
is untrue."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest

from bus.common.urls import problem_of_log
from bus.errors import (
    ConcurrencyError,
    InvalidMessage,
    NotAllowed,
    OutcomeUnknown,
    StoreUnavailable,
)
from bus.stores.event_log import Snapshot
from bus.stores.sql import SqlEventLog
from bus.testing.contracts.event_log_contract import commit
from bus.testing.contracts.states_contract import with_state
from tests.contract.sql_logs import opened
from tests.loops import Loop, each_loop, in_loop
from tests.servers import lent
from tests.stores import available
from tests.waiting import patience, until
from tools.faults import SmallDisk, small_disk
from tools.faults.proxy import Proxy
from tools.faults.sql import end_backend, locked, make_user, read_only
from tools.services import PostgreSQLNode, statements
from tools.services.sql_node import SQLNode


@pytest.fixture
def url(sql_node: SQLNode) -> str:
    return sql_node.create_database("jobs")


@pytest.fixture
async def log(url: str) -> AsyncIterator[SqlEventLog]:
    async with opened(url) as log:
        yield log


async def told(log: SqlEventLog, id: str, stream: str = "", first: int = 1) -> str:
    """Appends, and returns what was said of it."""
    given = [commit(id, stream or f"job-{id}", first, time=log.now())]
    try:
        stored = await log.append(given)
    except (ConcurrencyError, OutcomeUnknown, StoreUnavailable) as error:
        return type(error).__name__
    return "stored" if stored is given else "repeat"


class Load:
    """Appends without pause, each in a stream of its own, and notes what was said of each."""

    def __init__(self, log: SqlEventLog, writers: int = 20) -> None:
        self._log = log
        self._writers = writers
        self._stop = False
        self.words: dict[str, str] = {}

    async def during(self, fault: Callable[[], Awaitable[None]]) -> Counter[str]:
        """Runs while a fault happens, and until appends are stored again."""
        writing = [asyncio.create_task(self._write(n)) for n in range(self._writers)]
        try:
            await asyncio.sleep(0.5)
            await fault()
            before = self._stored()
            await until(lambda: self._stored() >= before + 100, "appends are not stored again")
        finally:
            self._stop = True
            async with asyncio.timeout(30 * patience()):
                await asyncio.gather(*writing)
        return Counter(self.words.values())

    def _stored(self) -> int:
        return Counter(self.words.values())["stored"]

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._stop:
            number += 1
            id = f"{writer}-{number}"
            self.words[id] = await told(self._log, id)
            if self.words[id] != "stored":
                await asyncio.sleep(0.05)

    async def check(self) -> None:
        """What was said is true."""
        held = await self._log.held(list(self.words))
        for id, word in self.words.items():
            assert word in ("stored", "StoreUnavailable", "OutcomeUnknown"), (id, word)
            if word != "OutcomeUnknown":
                assert (id in held) is (word == "stored"), (id, word)
        counted = [one.id async for one in self._log.scan(["job"])]
        assert len(counted) == len(set(counted))
        assert set(counted) == held


async def test_a_server_that_crashes_and_comes_back(log: SqlEventLog, sql_node: SQLNode) -> None:
    async def fault() -> None:
        await asyncio.to_thread(sql_node.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(sql_node.start)

    load = Load(log)
    await load.during(fault)
    await load.check()


async def test_a_server_that_is_restarted(log: SqlEventLog, sql_node: SQLNode) -> None:
    async def fault() -> None:
        await asyncio.to_thread(sql_node.stop)
        await asyncio.to_thread(sql_node.start)

    load = Load(log)
    await load.during(fault)
    await load.check()


async def test_a_server_that_freezes_for_a_moment(log: SqlEventLog, sql_node: SQLNode) -> None:
    async def fault() -> None:
        sql_node.pause()
        await asyncio.sleep(3)
        sql_node.resume()

    load = Load(log)
    words = await load.during(fault)
    assert words.keys() == {"stored"}
    await load.check()


async def test_a_server_that_stays_frozen_is_not_waited_for_for_ever(
    log: SqlEventLog, sql_node: SQLNode
) -> None:
    assert await told(log, "before") == "stored"
    sql_node.pause()
    began = time.monotonic()
    assert await told(log, "a") in ("OutcomeUnknown", "StoreUnavailable")
    assert time.monotonic() - began < 20 * patience()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await log.read("job-before")
    assert time.monotonic() - began < 12 * patience()
    sql_node.resume()
    assert await told(log, "b") == "stored"
    assert await told(log, "a") in ("stored", "repeat")


async def test_connections_that_are_cut_again_and_again(url: str) -> None:
    async with Proxy(url) as proxy, opened(proxy.url) as log:

        async def fault() -> None:
            for _ in range(20):
                await asyncio.sleep(0.1)
                proxy.cut()

        load = Load(log)
        words = await load.during(fault)
        assert words["stored"] > 100
        await load.check()


@each_loop
def test_connections_that_ended_while_nobody_used_them(url: str, loop: Loop) -> None:
    """The pool holds several of them."""

    async def cut() -> None:
        async with Proxy(url) as proxy, opened(proxy.url) as log:
            assert await told(log, "before") == "stored"
            for n in range(3):
                assert all(await asyncio.gather(*[log.commits(["before"]) for _ in range(5)]))
                assert proxy.cut() > 1
                await until(lambda: not proxy.cut() and not proxy.connections, "not all are cut")
                assert await log.commits(["before"])
                assert await told(log, f"a{n}") == "stored"

    in_loop(loop, cut())


@each_loop
def test_connections_that_end_as_soon_as_they_are_made(url: str, loop: Loop) -> None:
    """As where a balancer has no server to lead them to."""

    async def cut() -> None:
        async with Proxy(url) as proxy, opened(proxy.url) as log:
            assert await told(log, "before") == "stored"
            there, proxy.server = proxy.server, ("127.0.0.1", 1)
            proxy.cut()
            for _ in range(10):
                with pytest.raises(StoreUnavailable):
                    await log.commits(["before"])
            assert await told(log, "a") in ("StoreUnavailable", "OutcomeUnknown")
            proxy.server = there
            assert await told(log, "a") == "stored"

    in_loop(loop, cut())


async def test_an_answer_that_is_lost_was_a_commit(url: str) -> None:
    async with Proxy(url) as proxy, opened(proxy.url) as log:
        assert await told(log, "before") == "stored"
        proxy.lose_answers(b"", 1)
        assert await told(log, "a") == "stored"
        assert [one.id for one in await log.read("job-a")] == ["a"]
        proxy.lose_answers(b"", 1)
        assert await told(log, "a") == "repeat"


async def test_backends_that_are_ended(log: SqlEventLog, url: str) -> None:
    asked = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'doubledecker'"
        if "postgresql" in url
        else "SELECT id FROM information_schema.processlist WHERE db = 'jobs'"
    )

    def end() -> None:
        for (backend,) in statements.run(url, asked):
            try:
                end_backend(url, backend)
            except statements.REFUSALS:
                continue

    async def fault() -> None:
        for _ in range(5):
            await asyncio.to_thread(end)
            await asyncio.sleep(0.1)

    load = Load(log)
    await load.during(fault)
    await load.check()


async def test_a_server_that_takes_no_writes(sql_node: SQLNode, url: str) -> None:
    own = make_user(sql_node, "jobs_service", "jobs")
    async with opened(own) as log:
        assert await told(log, "before") == "stored"
        with read_only(sql_node):
            with pytest.raises(StoreUnavailable, match=r"read_only|OPTION_PREVENTS"):
                await log.append([commit("a", "job-a", time=log.now())])
            assert len(await log.read("job-before")) == 1
        assert await told(log, "a") == "stored"


async def test_a_table_that_somebody_locks(log: SqlEventLog, url: str) -> None:
    assert await told(log, "before") == "stored"
    with locked(url, "bus_commits"):
        waiting = asyncio.create_task(told(log, "a"))
        await asyncio.sleep(2)
        assert not waiting.done()
    assert await waiting == "stored"


async def test_a_user_without_rights_is_told_what_is_lacking(sql_node: SQLNode, url: str) -> None:
    """The least rights are those on the tables."""
    is_postgresql = statements.is_postgresql(url)
    async with opened(url) as log:
        assert await told(log, "before") == "stored"
    if is_postgresql:
        sql_node.sql("CREATE USER least PASSWORD 'password'")
    else:
        sql_node.sql("CREATE USER least IDENTIFIED BY 'password'")
    on = "ALL TABLES IN SCHEMA public" if is_postgresql else "jobs.*"
    statements.run(url, f"GRANT SELECT ON {on} TO least")
    async with opened(statements.of_user(url, "least", "password")) as log:
        with pytest.raises(NotAllowed, match="grant the URL's user SELECT, INSERT, UPDATE"):
            await log.append([commit("a", "job-a", time=log.now())])
        statements.run(url, f"GRANT INSERT, UPDATE, DELETE ON {on} TO least")
        assert await told(log, "a") == "stored"
        await log.confirmed(["a"])
        assert await log.settled() <= log.now()
        assert await log.examine() is None
        await log.forget_snapshots()
        await log.prepare_states("job", ["status"])
        for version, status in enumerate(("open", "closed"), 1):
            await log.append([with_state(version, "job-b", status=status)])
        assert len(await log.states("job", {"status": "closed"}, 9)) == 1
        await log.forget_states("job")


async def test_a_packet_that_the_server_does_not_take(sql_node: SQLNode, url: str) -> None:
    """PostgreSQL has no such limit."""
    is_limited = not statements.is_postgresql(url)
    if is_limited:
        sql_node.sql("SET GLOBAL max_allowed_packet = 1048576")
    async with opened(url) as log:
        many = [
            commit(f"c{n}", f"job-{n}", result="x" * 100_000, time=log.now()) for n in range(50)
        ]
        await asyncio.gather(*[log.append([one]) for one in many])
        large = commit("a", "job-a", result="'" * 600_000, time=log.now())
        refused = pytest.raises(InvalidMessage, match=r"statements of 1048576 .max_allowed_packet")
        with refused if is_limited else nullcontext():
            await log.append([large])
        assert await told(log, "b") == "stored"


async def test_a_full_disk_holds_up_appends_and_nothing_that_was_said_is_untrue(
    sql_kind: type[SQLNode],
) -> None:
    if not small_disk.available():
        pytest.skip("only root may mount a small disk")
    with SmallDisk(450) as disk, lent(sql_kind(disk.folder / "node")) as node:
        async with opened(node.create_database("jobs")) as log:

            async def fault() -> None:
                await asyncio.to_thread(disk.fill, 1_000_000)
                await asyncio.sleep(3)
                await asyncio.to_thread(disk.free)
                if not node.running:
                    await asyncio.to_thread(node.start)

            load = Load(log)
            await load.during(fault)
            await load.check()


async def test_a_standby_is_promoted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By a URL that names both servers; with a synchronous standby, nothing that was stored is
    lost. What follows the new primary from then on takes no writes, and is left."""
    kind: Any = available(PostgreSQLNode)
    folder = tmp_path_factory.mktemp("failover")
    with (
        lent(kind(folder / "first")) as primary,
        lent(kind(folder / "second", standby_of=primary)) as standby,
    ):
        primary.create_database("jobs")
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        hosts = "&".join(f"host=127.0.0.1:{node.port}" for node in (primary, standby))
        url = f"postgresql+asyncpg://postgres@/jobs?{hosts}&target_session_attrs=primary"
        assert problem_of_log(url) is None
        async with opened(url) as log:

            async def fault() -> None:
                await asyncio.to_thread(primary.kill)
                await asyncio.to_thread(standby.promote)

            load = Load(log)
            await load.during(fault)
            await load.check()


@pytest.mark.parametrize("by", ["an append", "a statement"])
async def test_a_server_that_takes_no_writes_any_more_is_left(
    sql_node: SQLNode, url: str, by: str
) -> None:
    """As after a fail-over that demoted it: the next connection may lead to another server."""
    own = make_user(sql_node, "jobs_service", "jobs")
    async with opened(own) as log:

        async def write(id: str) -> None:
            if by == "an append":
                await log.append([commit(id, f"job-{id}", time=log.now())])
            else:
                await log.save_snapshot(Snapshot(f"job-{id}", 1, "s", {}))

        async def ask() -> None:
            await asyncio.gather(*[log.commits(["before"]) for _ in range(5)])

        await write("before")
        await ask()
        before = backends(sql_node)
        with read_only(sql_node), pytest.raises(StoreUnavailable):
            await write("a")
        await write("b")
        await ask()
        assert len(before) > 2
        most = by == "a statement"  # the appender's own
        await until(lambda: len(before & backends(sql_node)) <= most, "the others are closed")


def backends(node: SQLNode) -> set[int]:
    """The connections of the log's user."""
    if statements.is_postgresql(node.url):
        ask = "SELECT pid FROM pg_stat_activity WHERE usename = 'jobs_service'"
    else:
        ask = "SELECT id FROM information_schema.processlist WHERE user = 'jobs_service'"
    return {row[0] for row in node.sql(ask)}

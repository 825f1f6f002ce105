"""What breaks an SQL server breaks it as it would break elsewhere, and is mended afterwards."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import lent
from tests.stores import available
from tests.waiting import patience
from tools.faults import Proxy, SmallDisk, small_disk, sql
from tools.services import PostgreSQLNode, statements
from tools.services.sql_node import SQLNode


@pytest.fixture(scope="module")
def node(sql_kind: type[SQLNode], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLNode]:
    with lent(sql_kind(tmp_path_factory.mktemp("sql"))) as node:
        yield node


@pytest.fixture
def url(node: SQLNode, unique: str) -> str:
    """A database with an empty table, for a user that is not the administrator."""
    node.create_database(unique)
    url = sql.make_user(node, unique, unique)
    statements.run(url, "CREATE TABLE things (id INT)")
    return url


async def run(url: str, *lines: str) -> statements.Rows:
    """Beside a loop in which the proxy runs."""
    return await asyncio.to_thread(statements.run, url, *lines, seconds=5 * patience())


WRITE = "INSERT INTO things VALUES (1)"
READ = "SELECT id FROM things"


async def test_a_connection_is_cut_before_its_commit_or_after_it(url: str) -> None:
    async with Proxy(url) as proxy:
        proxy.lose_requests(b"COMMIT", 1)
        with pytest.raises(statements.REFUSALS):
            await run(proxy.url, "BEGIN", WRITE, "COMMIT")
        assert proxy.cuts == 1
        assert await run(url, READ) == []

        proxy.lose_answers(b"COMMIT", 1)
        with pytest.raises(statements.REFUSALS):
            await run(proxy.url, "BEGIN", WRITE, "COMMIT")
        assert (proxy.cuts, proxy.answers_lost) == (2, 1)
        assert await run(url, READ) == [(1,)]


def test_a_backend_is_ended_and_its_transaction_with_it(node: SQLNode, url: str) -> None:
    with statements.connected(url) as mine, statements.connected(url) as other:
        mine.run("BEGIN", WRITE)
        other.run("BEGIN", WRITE)
        sql.end_backend(node.url, mine.backend)
        with pytest.raises(statements.REFUSALS):
            mine.run("COMMIT")
        other.run("COMMIT")
    assert statements.run(url, READ) == [(1,)]


def test_all_connections_to_a_database_are_ended(node: SQLNode, url: str, unique: str) -> None:
    with statements.connected(url) as mine, statements.connected(url) as other:
        assert statements.end_connections(node.url_of(unique)) == 2
        for connection in (mine, other):
            with pytest.raises(statements.REFUSALS):
                connection.run("SELECT 1")


def test_a_server_refuses_writes_until_it_takes_them_again(node: SQLNode, url: str) -> None:
    with statements.connected(url) as before:
        before.run(WRITE)
        with sql.read_only(node):
            with pytest.raises(statements.REFUSALS, match=r"read.only"):
                before.run(WRITE)
            with pytest.raises(statements.REFUSALS, match=r"read.only"):
                statements.run(url, WRITE)
            assert before.run(READ) == [(1,)]
        before.run(WRITE)
    assert statements.run(url, READ) == [(1,), (1,)]


def test_a_locked_table_is_waited_for(url: str) -> None:
    with sql.locked(url, "things"), pytest.raises(statements.REFUSALS):
        statements.run(url, READ, seconds=0.5)
    assert statements.run(url, READ) == []


needs_a_disk = pytest.mark.skipif(
    not small_disk.available(), reason="only root may mount a small disk"
)


@needs_a_disk
def test_a_full_disk_refuses_what_takes_room_until_there_is_some(sql_kind: type[SQLNode]) -> None:
    with SmallDisk(400) as disk, lent(sql_kind(disk.folder / "node")) as node:
        url = node.create_database("full")
        statements.run(url, "CREATE TABLE texts (words TEXT)")
        fill = f"INSERT INTO texts VALUES ('{os.urandom(30_000).hex()}')"
        disk.fill(leave=2_000_000)
        with pytest.raises(statements.REFUSALS):
            statements.run(url, *[fill] * 2000)
        disk.free()
        if not node.running:
            node.start()
        assert statements.run(url, fill) == []
    assert not disk.folder.exists()


@needs_a_disk
def test_a_disk_is_filled_to_the_byte_and_emptied_again(tmp_path: Path) -> None:
    with SmallDisk(2) as disk:
        disk.fill(leave=8192)
        (disk.folder / "fits").write_bytes(bytes(4096))
        disk.fill()
        with pytest.raises(OSError, match="No space"):
            (disk.folder / "too much").write_bytes(bytes(4096))
        disk.free()
        (disk.folder / "too much").write_bytes(bytes(4096))


def test_a_standby_of_a_frozen_primary_takes_over(tmp_path: Path) -> None:
    kind: Any = available(PostgreSQLNode)
    with (
        lent(kind(tmp_path / "first")) as primary,
        lent(kind(tmp_path / "second", standby_of=primary)) as standby,
    ):
        primary.pause()
        standby.promote()
        standby.sql("CREATE TABLE after (id INT)")

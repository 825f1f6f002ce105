"""Real SQL servers of a test's own: they crash, come back, freeze, and leave nothing running."""

import os
from pathlib import Path

import pytest

from tests.servers import lent, nothing_runs_in, processes_of
from tests.stores import available
from tools.services import PostgreSQLNode, ServiceUnavailable, other_user, statements
from tools.services.finding import KINDS, VARIABLES, services
from tools.services.packages import NO_INSTALL
from tools.services.ports import is_free
from tools.services.process import children_of
from tools.services.sql_node import SQLNode


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service to be found: neither the test run's, nor Docker's."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOUBLEDECKER_NO_DOCKER", "1")


def test_each_test_has_an_empty_database_of_its_own(sql_url: str) -> None:
    statements.run(sql_url, "CREATE TABLE things (id INT)", "INSERT INTO things VALUES (1)")
    assert statements.run(sql_url, "SELECT id FROM things") == [(1,)]


def test_a_node_keeps_its_data_over_a_crash_and_a_clean_end(sql_node: SQLNode) -> None:
    port = sql_node.port
    url = sql_node.create_database("kept")
    statements.run(url, "CREATE TABLE things (id INT)", "INSERT INTO things VALUES (1)")
    for end in (sql_node.kill, sql_node.stop):
        pid = sql_node.pid
        children = children_of(pid)
        end()
        assert not sql_node.running
        assert not [child for child in children if child.alive]
        sql_node.start()
        assert (sql_node.port, sql_node.pid != pid) == (port, True)
        assert sql_node.sql("SELECT id FROM things", database="kept") == [(1,)]


def test_a_frozen_node_answers_nobody_until_it_is_resumed(sql_node: SQLNode) -> None:
    sql_node.pause()
    with pytest.raises(statements.REFUSALS):
        sql_node.sql("SELECT 1", seconds=0.5)
    sql_node.resume()
    assert sql_node.sql("SELECT 1") == [(1,)]
    sql_node.pause()
    sql_node.stop()
    assert not sql_node.running


def test_a_node_leaves_nothing(sql_kind: type[SQLNode], tmp_path: Path) -> None:
    folder = tmp_path / "a node"
    node = sql_kind(folder)
    with lent(node):
        place = other_user.place_of(folder)
        assert place.is_dir()
        assert processes_of(folder)
    assert nothing_runs_in(folder)
    assert is_free(node.port)
    assert not folder.exists()
    assert not place.exists()


def test_a_crashed_postgresql_leaves_no_shared_memory(tmp_path: Path) -> None:
    with lent(available(PostgreSQLNode)(tmp_path / "a node")) as node:
        pid = (other_user.place_of(node.folder) / "data" / "postmaster.pid").read_text()
        number = pid.splitlines()[6].split()[1]
        assert number in segments()
        node.kill()
    assert number not in segments()


def segments() -> list[str]:
    """The numbers of the shared memory that there is."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line.split()[1] for line in lines]


def test_a_server_of_roots_is_not_roots_itself(sql_node: SQLNode) -> None:
    _, _, told = Path(f"/proc/{sql_node.pid}/status").read_text().partition("Uid:")
    assert "0" not in told.split()[:4]


def test_databases_are_created_and_dropped_also_while_somebody_is_there(sql_node: SQLNode) -> None:
    url = sql_node.create_database("mine")
    with statements.connected(url) as connection:
        connection.run("CREATE TABLE things (id INT)", "BEGIN", "INSERT INTO things VALUES (1)")
        sql_node.drop_database("mine")
        with pytest.raises(statements.REFUSALS):
            connection.run("COMMIT")
    sql_node.drop_database("mine")
    with pytest.raises(statements.REFUSALS):
        sql_node.sql("SELECT 1", database="mine")


def test_a_user_with_a_password_comes_in_by_it_alone(sql_node: SQLNode) -> None:
    place = "" if statements.is_postgresql(sql_node.url) else "@localhost"
    words = "PASSWORD" if statements.is_postgresql(sql_node.url) else "IDENTIFIED BY"
    sql_node.sql(f"CREATE USER ada{place} {words} 'difference'")
    server = sql_node.url_of("postgres") if statements.is_postgresql(sql_node.url) else sql_node.url
    assert statements.run(statements.of_user(server, "ada", "difference"), "SELECT 1") == [(1,)]
    with pytest.raises(statements.REFUSALS, match="ada"):
        statements.run(statements.of_user(server, "ada", "analysis"), "SELECT 1")


def test_flags_are_the_servers(tmp_path: Path) -> None:
    flags = ("-c", "max_connections=7")
    with lent(available(PostgreSQLNode)(tmp_path, flags=flags)) as node:
        assert node.sql("SHOW max_connections") == [("7",)]


def test_a_node_that_fails_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    node = available(PostgreSQLNode)(tmp_path, flags=("-c", "no_such_setting=1"))
    with pytest.raises(ServiceUnavailable, match="no_such_setting"), lent(node):
        pass
    assert nothing_runs_in(tmp_path)


def test_a_standby_takes_over_with_what_its_primary_had(tmp_path: Path) -> None:
    with lent(available(PostgreSQLNode)(tmp_path / "first")) as primary:
        primary.sql("CREATE TABLE before (id INT)")
        with lent(available(PostgreSQLNode)(tmp_path / "second", standby_of=primary)) as standby:
            assert standby.follows
            primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.sql("SELECT pg_reload_conf()")
            primary.sql("SET synchronous_commit = remote_apply", "CREATE TABLE after (id INT)")
            with pytest.raises(statements.REFUSALS, match="read-only"):
                standby.sql("INSERT INTO after VALUES (1)")
            primary.kill()
            standby.promote()
            standby.sql("SET synchronous_commit = local", "INSERT INTO before VALUES (1)")
            assert standby.sql("SELECT id FROM after") == []
            standby.kill()
            standby.start()
            assert not standby.follows


# --- finding them --------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alone: None) -> None:
    """A machine without SQL servers, and without the right to install them."""
    monkeypatch.setattr("tools.services.postgresql.DEBIAN_FOLDER", tmp_path)
    monkeypatch.setattr("tools.services.sql_node.ELSEWHERE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(NO_INSTALL, "1")


@pytest.mark.usefixtures("alone")
def test_servers_that_are_asked_for_are_started_together(tmp_path: Path) -> None:
    names = ["postgresql", "mariadb"]
    for name in names:
        available(KINDS[name])
    with services(names, folder=tmp_path / "home", kept_folder=tmp_path / "kept") as found:
        assert {name: place.origin for name, place in found.sql.items()} == dict.fromkeys(
            names, "private"
        )
        assert found.environment == {VARIABLES[name]: found.sql[name].url for name in names}
        for place in found.sql.values():
            assert statements.run(place.url, "SELECT 1") == [(1,)]
        assert found.amqp_url == ""
    assert nothing_runs_in(tmp_path)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("postgresql", "apt-get install postgresql` yourself, or .*BUS_TEST_POSTGRESQL_URL"),
        ("mariadb", "apt-get install mariadb-server` yourself, or .*BUS_TEST_MARIADB_URL"),
    ],
)
def test_a_server_that_cannot_be_had_is_an_error_or_a_reason(
    name: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(ServiceUnavailable, match=remedy), services([name], kept_folder=tmp_path):
        pass
    with services([], optional=[name], kept_folder=tmp_path) as found:
        assert found.sql == {}
        (why,) = found.environment.values()
        assert found.environment == {f"BUS_TEST_{name.upper()}_MISSING": why}
        assert "is missing" in why


def test_a_folder_among_closed_ones_is_put_above_those(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs servers as other users")
    (tmp_path / "temporary").mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    place = other_user.make_place(tmp_path, os.geteuid())
    try:
        assert place.name.startswith("doubledecker-server-")
        assert place.parent in tmp_path.parents
        assert other_user.make_place(tmp_path, os.geteuid()) == place
    finally:
        place.rmdir()


def test_mysql_is_for_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceUnavailable, match="set BUS_TEST_MYSQL_URL"):
        KINDS["mysql"](tmp_path).start()


def test_a_folder_that_no_other_user_reaches_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(other_user, "_is_open", lambda folder: False)
    with pytest.raises(ServiceUnavailable, match=r"can reach neither .*: set TMPDIR"):
        other_user.make_place(tmp_path, "postgres")

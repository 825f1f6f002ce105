"""A run says which stores it was on, and why it was not on others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores import asked
from tools.services import later
from tools.services.finding import VARIABLES, why_missing

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest

pytest_plugins = ["tests.stores"]


@pytest.fixture
def unique():
    return "of_a_run_in_a_run"


def test_on_each(sql_url): ...
def test_on_mariadb(mariadb_server): ...
def test_on_mysql(mysql_server): ...
def test_on_kafka(kafka_server): ...
"""


def run(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run those tests with none of the servers but those that the variables name."""
    names = {*VARIABLES.values(), *map(why_missing, VARIABLES), later.ADDRESS, "CI"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    (folder / "test_it.py").write_text(TESTS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", "test_it.py"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_what_was_tested_is_said_with_its_version(tmp_path: Path, mariadb_server: str) -> None:
    done = run(
        tmp_path,
        BUS_TEST_MARIADB_URL=mariadb_server,
        BUS_TEST_POSTGRESQL_MISSING="it cannot be had: run `apt-get install it`",
        BUS_TEST_KAFKA_MISSING="there is no Java",
    )
    assert done.returncode == 0, done.stdout
    assert "Stores tested: MariaDB 1" in done.stdout
    assert "; MySQL: not asked for (bin/test --mysql)" in done.stdout
    assert (
        "Tests skipped: PostgreSQL is missing: it cannot be had: run `apt-get install it`"
    ) in done.stdout
    assert "Tests skipped: Kafka is missing: there is no Java" in done.stdout
    assert "2 passed, 2 skipped, 1 deselected" in done.stdout


def test_in_ci_what_is_missing_fails(tmp_path: Path) -> None:
    done = run(tmp_path, CI="true")
    assert done.returncode == 1
    assert "PostgreSQL is missing, and in CI nothing is skipped: BUS_TEST_POSTGRESQL_URL" in (
        done.stdout
    )
    assert "Kafka is missing, and in CI nothing is skipped" in done.stdout
    assert "4 errors" in done.stdout


def test_mysql_is_among_the_servers_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUS_TEST_MYSQL_URL", raising=False)
    assert asked() == ["postgresql", "mariadb"]
    monkeypatch.setenv("BUS_TEST_MYSQL_URL", "mysql+aiomysql://root@127.0.0.1/")
    assert asked() == ["postgresql", "mariadb", "mysql"]

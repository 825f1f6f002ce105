"""The stores that a run is on: a database for each test that asks, and which of them were tested.

`bin/test` starts PostgreSQL and MariaDB, and with --mysql MySQL. Where one of the former cannot be
had, its tests are skipped; in CI they fail.
"""

import os
from collections.abc import Iterator

import pytest
from pymongo import MongoClient

from tools.services import statements
from tools.services.finding import LABELS, MONGODB, SQL, VARIABLES, why_missing

ALWAYS = ("postgresql", "mariadb")
MYSQL = "mysql"
PROPERTY = "store"

_tested: set[str] = set()


def asked() -> list[str]:
    """The SQL servers that the tests are to run on."""
    return [*ALWAYS, *([MYSQL] if os.environ.get("BUS_TEST_MYSQL_URL") else [])]


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql_server() -> str:
    """The URL of the run's PostgreSQL, on which a test makes databases of its own."""
    return _server("postgresql")


@pytest.fixture(scope="session")
def mariadb_server() -> str:
    """The URL of the run's MariaDB."""
    return _server("mariadb")


@pytest.fixture(scope="session")
def mysql_server() -> str:
    """The URL of the run's MySQL; tests that ask for it are left out without one."""
    return _server(MYSQL)


@pytest.fixture
def postgresql_url(postgresql_server: str, unique: str) -> Iterator[str]:
    """An empty database on PostgreSQL, dropped afterwards."""
    yield from _database(postgresql_server, unique)


@pytest.fixture
def mariadb_url(mariadb_server: str, unique: str) -> Iterator[str]:
    """An empty database on MariaDB, dropped afterwards."""
    yield from _database(mariadb_server, unique)


@pytest.fixture
def mysql_url(mysql_server: str, unique: str) -> Iterator[str]:
    """An empty database on MySQL, dropped afterwards."""
    yield from _database(mysql_server, unique)


@pytest.fixture(params=asked())
def sql_url(request: pytest.FixtureRequest, unique: str) -> Iterator[str]:
    """An empty database, on each of the SQL servers in turn, dropped afterwards."""
    yield from _database(_server(request.param), unique)


def _server(name: str) -> str:
    url = os.environ.get(VARIABLES[name])
    if url:
        return url
    why = os.environ.get(why_missing(name)) or (
        f"{VARIABLES[name]} is not set: run the tests by bin/test, which starts the servers"
    )
    if os.environ.get("CI"):
        pytest.fail(f"{LABELS[name]} is missing, and in CI nothing is skipped: {why}")
    pytest.skip(f"{LABELS[name]} is missing: {why}")


def _database(server: str, name: str) -> Iterator[str]:
    yield statements.create_database(server, name)
    statements.drop_database(server, name)


# --- which were tested ---------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if MYSQL in asked():
        return
    without = [item for item in items if "mysql_server" in _fixtures(item)]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.user_properties += [(PROPERTY, name) for name in _stores(item)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and not report.skipped:
        _tested.update(str(value) for name, value in report.user_properties if name == PROPERTY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [why for name in ALWAYS if (why := os.environ.get(why_missing(name)))]
    if not _tested and not told:
        return
    tested = ", ".join(
        f"{LABELS[name]} {_version(name)}" for name in (MONGODB, *SQL) if name in _tested
    )
    missing = "".join(
        f"; {LABELS[name]}: missing" for name in ALWAYS if os.environ.get(why_missing(name))
    )
    unasked = "" if MYSQL in asked() else "; MySQL: not asked for (bin/test --mysql)"
    terminalreporter.write_line(f"Stores tested: {tested or 'none'}{missing}{unasked}")
    for why in told:
        terminalreporter.write_line(f"Skipped: {why}")


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _stores(item: pytest.Item) -> list[str]:
    """The stores that a test runs on, by the fixtures that it asks for."""
    names = _fixtures(item)
    found = [MONGODB] if "mongo_url" in names else []
    found += [name for name in SQL if f"{name}_server" in names]
    call = getattr(item, "callspec", None)
    return found + ([call.params["sql_url"]] if call and "sql_url" in call.params else [])


def _version(name: str) -> str:
    url = os.environ[VARIABLES[name]]
    if name != MONGODB:
        return statements.version(url)
    with MongoClient[dict[str, object]](url) as client:
        return str(client.server_info()["version"])

"""The stores that a run is on: a database or a server for a test, and which of them were tested.

`bin/test` starts PostgreSQL and MariaDB, and with --mysql MySQL. Kafka and the search engines start
once a test that was chosen needs them (`tools/services/later.py`), beside the tests that come
before: a run of other files does without the seconds and the memory that they cost. Where one of
all these but MySQL cannot be had, its tests are skipped; in CI they fail.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from pymongo import MongoClient

from tests.servers import lent
from tools.services import later, statements
from tools.services.errors import ServiceUnavailable
from tools.services.finding import (
    JAVA,
    KINDS,
    LABELS,
    MONGODB,
    MORE,
    SQL,
    VARIABLES,
    why_missing,
)
from tools.services.jars import search
from tools.services.jars.kafka import KafkaNode
from tools.services.jars.search import SearchNode
from tools.services.node import Node
from tools.services.prometheus import PrometheusNode
from tools.services.redis import RedisNode
from tools.services.sql_node import SQLNode

ALWAYS = ("postgresql", "mariadb")
MYSQL = "mysql"
SEARCH: dict[str, type[SearchNode]] = {
    name: kind for name, kind in JAVA.items() if issubclass(kind, SearchNode)
}
SHARED_BY_NAME = ("sql_url", "store_settings", "search_url")
BY_NAME = (*SHARED_BY_NAME, "sql_kind", "search_kind")
"""The fixtures whose parameter is the name of a server, the run's or one of the test's own."""

PROPERTY = "store"

AnyKind = TypeVar("AnyKind", bound=type[Node])

_tested: set[str] = set()
_missing: dict[str, str] = {}


def asked() -> list[str]:
    """The SQL servers that the tests are to run on."""
    return [*ALWAYS, *([MYSQL] if os.environ.get(VARIABLES[MYSQL]) else [])]


# --- databases on the run's servers --------------------------------------------------------------


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


@pytest.fixture(scope="session")
def kafka_server() -> str:
    """The URL of the run's Kafka, as `kafka://127.0.0.1:9092`; a test names topics of its own."""
    return _server("kafka")


@pytest.fixture
def opensearch_url(unique: str) -> Iterator[str]:
    """The URL of the run's OpenSearch; indices that begin with `unique` are dropped afterwards."""
    yield from _engine("opensearch", unique)


@pytest.fixture(params=SEARCH)
def search_url(request: pytest.FixtureRequest, unique: str) -> Iterator[str]:
    """As `opensearch_url`, of each of the search engines in turn."""
    yield from _engine(request.param, unique)


def _engine(name: str, prefix: str) -> Iterator[str]:
    url = _server(name)
    yield url
    search.call(url, "DELETE", f"/{prefix}*")


def _server(name: str) -> str:
    given = os.environ.get(VARIABLES[name])
    answer = later.Answer(given) if given else later.ask(name)
    if not answer.url:
        _leave_out(
            LABELS[name],
            answer.why_missing
            or os.environ.get(why_missing(name))
            or f"{VARIABLES[name]} is not set: run the tests by bin/test, which starts the servers",
        )
    return answer.url


def _database(server: str, name: str) -> Iterator[str]:
    yield statements.create_database(server, name)
    statements.drop_database(server, name)


# --- servers of a test's own ---------------------------------------------------------------------


@pytest.fixture(scope="session", params=asked())
def sql_kind(request: pytest.FixtureRequest) -> type[SQLNode]:
    """Each of the SQL servers in turn, of which a test makes nodes that it may break."""
    return available(SQL[request.param])


@pytest.fixture
def sql_node(sql_kind: type[SQLNode], tmp_path: Path) -> Iterator[SQLNode]:
    """A server for this test alone, which it may break: each of them in turn."""
    with lent(sql_kind(tmp_path / "sql")) as node:
        yield node


@pytest.fixture(scope="session")
def kafka_kind() -> type[KafkaNode]:
    """Kafka, of which a test makes nodes that it may break."""
    return available(KafkaNode)


@pytest.fixture
def kafka_node(kafka_kind: type[KafkaNode], tmp_path: Path) -> Iterator[KafkaNode]:
    """A Kafka for this test alone, which it may break."""
    with lent(kafka_kind(tmp_path / "kafka")) as node:
        yield node


@pytest.fixture(scope="session", params=SEARCH)
def search_kind(request: pytest.FixtureRequest) -> type[SearchNode]:
    """Each of the search engines in turn, of which a test makes nodes that it may break."""
    return available(SEARCH[request.param])


@pytest.fixture
def search_node(search_kind: type[SearchNode], tmp_path: Path) -> Iterator[SearchNode]:
    """A search engine for this test alone, which it may break: each of them in turn."""
    with lent(search_kind(tmp_path / "search")) as node:
        yield node


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis, which starts in no time: each process of tests has its own."""
    if given := os.environ.get(RedisNode.variable):
        yield given
        return
    with lent(available(RedisNode)(tmp_path_factory.mktemp("redis"))) as node:
        yield node.url


@pytest.fixture(scope="session")
def prometheus_kind() -> type[PrometheusNode]:
    """Prometheus, of which a test makes nodes with rules of its own."""
    return available(PrometheusNode)


def available(kind: AnyKind) -> AnyKind:
    """The kind of nodes, if such can be had here; else the test is left out."""
    try:
        _ = kind(Path()).version
    except ServiceUnavailable as error:
        _leave_out(kind.label, str(error))
    return kind


def _leave_out(label: str, why: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{label} is missing, and in CI nothing is skipped: {why}")
    pytest.skip(f"{label} is missing: {why}")


# --- which were tested ---------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if MYSQL in asked():
        return
    without = [item for item in items if "mysql_server" in _fixtures(item)]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


def pytest_collection_finish(session: pytest.Session) -> None:
    for name in set().union(*map(_shared, session.items)) & set(JAVA):
        if not os.environ.get(VARIABLES[name]):
            later.wake(name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.user_properties += [(PROPERTY, name) for name in _stores(item)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    names = {str(value) for name, value in report.user_properties if name == PROPERTY}
    if report.skipped:
        _missing.update(
            {name: why for name in names if (why := _reason(report)).startswith(LABELS[name])}
        )
    elif report.when == "call":
        _tested.update(names)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _tested and not _missing:
        return
    tested = [f"{LABELS[name]} {_version(name)}" for name in (MONGODB, *MORE) if name in _tested]
    unasked = "" if MYSQL in asked() else "; MySQL: not asked for (bin/test --mysql)"
    terminalreporter.write_line(f"Stores tested: {', '.join(tested) or 'none'}{unasked}")
    for why in _missing.values():
        terminalreporter.write_line(f"Tests skipped: {why}")


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _stores(item: pytest.Item) -> set[str]:
    """The stores that a test runs on, by the fixtures that it asks for."""
    own = {"kafka"} if "kafka_kind" in _fixtures(item) else set()
    return own | _shared(item) | _named(item, BY_NAME)


def _shared(item: pytest.Item) -> set[str]:
    """Those of them that are the run's."""
    names = _fixtures(item)
    found = {name for name in MORE if {f"{name}_server", f"{name}_url"} & {*names}}
    found |= {MONGODB} if "mongo_url" in names else set()
    return found | _named(item, SHARED_BY_NAME)


def _named(item: pytest.Item, fixtures: Sequence[str]) -> set[str]:
    """The parameters of these fixtures that a test is run with."""
    call = getattr(item, "callspec", None)
    return {call.params[name] for name in fixtures if call and name in call.params}


def _reason(report: pytest.TestReport) -> str:
    """Why a test was skipped, which is the last of three things that pytest says of it."""
    told = report.longrepr
    return told[2].removeprefix("Skipped: ") if isinstance(told, tuple) else ""


def _version(name: str) -> str:
    url = os.environ.get(VARIABLES[name])
    if not url:
        return KINDS[name](Path()).version
    try:
        return _version_at(name, url)
    except Exception:  # a test that failed says more
        return "(answers no more)"


def _version_at(name: str, url: str) -> str:
    if name in SQL:
        return statements.version(url)
    if name in SEARCH:
        return str(search.call(url, "GET", "/")["version"]["number"])
    if name in JAVA:
        return "(it does not tell its version)"
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=3000) as client:
        return str(client.server_info()["version"])

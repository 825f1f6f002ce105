"""Single SQL statements, by the drivers alone: what prepares a server or a database for a test."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pymysql

from tools.services.ports import DEFAULT_PORTS

SECONDS = 30.0

Rows = list[tuple[Any, ...]]

TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK")

REFUSALS: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    pymysql.MySQLError,
)
"""What a server that cannot be reached, or does not want to, is told by."""


class Connection(ABC):
    """A connection that does one thing after another, each as it comes; no transaction is begun.

    May be used where an event loop runs, which then waits as well. Raises `REFUSALS`.
    """

    @abstractmethod
    def run(self, *statements: str) -> Rows:
        """Run statements one by one; returns the rows of the last."""

    @abstractmethod
    def close(self) -> None:
        """End it at once: what is not committed is lost."""

    @property
    @abstractmethod
    def backend(self) -> int:
        """The number by which its server knows it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connected(url: str, *, seconds: float = SECONDS) -> Connection:
    """Connect to a server, or to the database that the URL names; nothing takes over `seconds`."""
    return _PostgreSQL(url, seconds) if is_postgresql(url) else _MySQL(url, seconds)


def run(url: str, *statements: str, seconds: float = SECONDS) -> Rows:
    """Run statements one by one, each committed for itself; returns the rows of the last."""
    with connected(url, seconds=seconds) as connection:
        return connection.run(*statements)


def version(url: str) -> str:
    """The server's version, as `15.18`."""
    asked = "SHOW server_version" if is_postgresql(url) else "SELECT version()"
    ((told,),) = run(url, asked)
    return str(told).partition(" ")[0].partition("-")[0]


def create_database(url: str, name: str) -> str:
    """Create an empty database on the server of `url`; returns the URL of the database."""
    run(url, f"CREATE DATABASE {quoted(url, name)}")
    return of_database(url, name)


def drop_database(url: str, name: str) -> None:
    """Drop a database if it is there, with the connections that it still has."""
    if is_postgresql(url):
        run(url, f"DROP DATABASE IF EXISTS {quoted(url, name)} WITH (FORCE)")
        return
    # It would wait for what they have open.
    end_connections(of_database(url, name))
    run(url, f"DROP DATABASE IF EXISTS {quoted(url, name)}")


def end_connections(url: str) -> int:
    """Have the server end all connections to the database of `url`; returns how many."""
    name = urlsplit(url).path.lstrip("/")
    if is_postgresql(url):
        ending = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname ="
        return len(
            run(of_database(url, "postgres"), f"{ending} '{name}' AND pid <> pg_backend_pid()")
        )
    with connected(of_database(url, "")) as connection:
        numbers = [number for number, database in _processes(connection) if database == name]
        for number in numbers:
            with suppress(pymysql.MySQLError):  # it ended by itself
                connection.run(f"KILL {number}")
    return len(numbers)


def _processes(connection: Connection) -> Rows:
    """The connections of MariaDB or MySQL, and the database that each uses.

    MySQL's processlist fails while a statement with characters beyond its old Unicode runs, and
    MariaDB's other table is empty by default.
    """
    ((version,),) = connection.run("SELECT VERSION()")
    if "MariaDB" in version:
        return connection.run("SELECT id, db FROM information_schema.processlist")
    return connection.run("SELECT processlist_id, processlist_db FROM performance_schema.threads")


def of_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def of_user(url: str, name: str, password: str) -> str:
    """The URL for another user; both words as they are to be written in a URL."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{place}"))


def is_postgresql(url: str) -> bool:
    return urlsplit(url).scheme.startswith("postgresql")


def quoted(url: str, name: str) -> str:
    """A name as the server of `url` wants it in a statement."""
    sign = '"' if is_postgresql(url) else "`"
    return sign + name.replace(sign, 2 * sign) + sign


class _PostgreSQL(Connection):
    """Its driver is asynchronous: it gets a thread, and there a loop, of its own."""

    def __init__(self, url: str, seconds: float) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner()
        try:
            self._connection = self._await(asyncpg.connect, **_arguments(url), timeout=seconds)
        except BaseException:
            self._end()
            raise
        self._seconds = seconds

    def run(self, *statements: str) -> Rows:
        return [self._one(statement) for statement in statements][-1]

    def close(self) -> None:
        # A clean end waits for the server, which may be frozen or gone.
        self._thread.submit(self._connection.terminate).result()
        self._end()

    @property
    def backend(self) -> int:
        return int(self._connection.get_server_pid())

    def _one(self, statement: str) -> Rows:
        if statement in TRANSACTIONS:  # one message, as drivers send it
            self._await(self._connection.execute, statement, timeout=self._seconds)
            return []
        rows = self._await(self._connection.fetch, statement, timeout=self._seconds)
        return [tuple(row) for row in rows]

    def _await(self, call: Callable[..., Any], *words: Any, **options: Any) -> Any:
        async def awaited() -> Any:
            return await call(*words, **options)

        return self._thread.submit(lambda: self._runner.run(awaited())).result()

    def _end(self) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


class _MySQL(Connection):
    def __init__(self, url: str, seconds: float) -> None:
        self._connection = pymysql.connect(
            **_arguments(url),
            autocommit=True,
            ssl_disabled=True,  # what TLS would need takes 70 ms to set up
            connect_timeout=seconds,
            read_timeout=seconds,
            write_timeout=seconds,
        )

    def run(self, *statements: str) -> Rows:
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def close(self) -> None:
        self._connection._force_close()

    @property
    def backend(self) -> int:
        return int(self._connection.thread_id())


def _arguments(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or DEFAULT_PORTS[parts.scheme],
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.lstrip("/") or None,
    }

"""Single SQL statements, by the drivers alone: what prepares a server or a database for a test."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pymysql

from tools.services.ports import DEFAULT_PORTS

SECONDS = 30.0

Rows = list[tuple[Any, ...]]

REFUSALS: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    pymysql.MySQLError,
)
"""What a server that cannot be reached, or does not want to, is told by."""


def run(url: str, *statements: str, seconds: float = SECONDS) -> Rows:
    """Run statements one by one, each committed for itself; returns the rows of the last.

    May be called where an event loop runs. Raises one of `REFUSALS`, each as its driver does.
    """
    if is_postgresql(url):
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _in_postgresql(url, statements, seconds)).result()
    return _in_mysql(url, statements, seconds)


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
    holding = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
    for (connection,) in run(url, holding):
        try:
            run(url, f"KILL {connection}")
        except pymysql.MySQLError:  # it ended by itself
            continue
    run(url, f"DROP DATABASE IF EXISTS {quoted(url, name)}")


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


async def _in_postgresql(url: str, statements: Sequence[str], seconds: float) -> Rows:
    arguments = _arguments(url)
    connection = await asyncpg.connect(**arguments, timeout=seconds, command_timeout=seconds)
    try:
        rows = [await connection.fetch(statement) for statement in statements][-1]
        return [tuple(row) for row in rows]
    finally:
        # A clean end waits for the server, which may be frozen or gone.
        connection.terminate()


def _in_mysql(url: str, statements: Sequence[str], seconds: float) -> Rows:
    connection = pymysql.connect(
        **_arguments(url),
        autocommit=True,
        ssl_disabled=True,  # what TLS would need takes 70 ms to set up
        connect_timeout=seconds,
        read_timeout=seconds,
        write_timeout=seconds,
    )
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def _arguments(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or DEFAULT_PORTS[parts.scheme],
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.lstrip("/") or None,
    }

"""What breaks in an SQL server by statements: connections ended, tables locked, writes refused.

A transaction that somebody holds open is `statements.connected` with a BEGIN.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tools.services import statements
from tools.services.ports import wait_until
from tools.services.sql_node import SQLNode

PASSWORD = "password"
WITHIN = 10.0


def make_user(node: SQLNode, name: str, database: str) -> str:
    """Make a user with all rights in one database, and none elsewhere; returns its URL."""
    url = node.url_of(database)
    if statements.is_postgresql(url):
        node.sql(f"CREATE USER {name} PASSWORD '{PASSWORD}'")
        node.sql(f"ALTER DATABASE {database} OWNER TO {name}")
    else:
        node.sql(f"CREATE USER {name} IDENTIFIED BY '{PASSWORD}'")
        node.sql(f"GRANT ALL ON {database}.* TO {name}")
    return statements.of_user(url, name, PASSWORD)


def end_backend(url: str, backend: int) -> None:
    """Have the server of `url` end one connection, as an administrator does."""
    if statements.is_postgresql(url):
        statements.run(url, f"SELECT pg_terminate_backend({backend}, 10000)")
    else:
        statements.run(url, f"KILL {backend}")


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Hold off whoever else reads or writes the table."""
    with statements.connected(url) as connection:
        if statements.is_postgresql(url):
            connection.run("BEGIN", f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        else:
            connection.run(f"LOCK TABLES {table} WRITE")
        yield


@contextmanager
def read_only(node: SQLNode) -> Iterator[None]:
    """Make a server refuse writes, also those of connections that it has.

    MariaDB still takes those of its administrator: come as another (`make_user`).
    """
    _refuse_writes(node, True)
    try:
        yield
    finally:
        _refuse_writes(node, False)


def _refuse_writes(node: SQLNode, refuse: bool) -> None:
    word = "on" if refuse else "off"
    if not statements.is_postgresql(node.url):
        # The strict one brings the other with it, and goes with it.
        node.sql(f"SET GLOBAL {_strictest(node) if refuse else 'read_only'} = {word}")
        return
    name = "default_transaction_read_only"
    node.sql(f"ALTER SYSTEM SET {name} = {word}", "SELECT pg_reload_conf()")
    # It tells its processes; each looks when it comes to it.
    wait_until(lambda: node.sql(f"SHOW {name}") == [(word,)], WITHIN)


def _strictest(node: SQLNode) -> str:
    found = node.sql("SHOW GLOBAL VARIABLES WHERE variable_name = 'super_read_only'")
    return "super_read_only" if found else "read_only"

"""The log in PostgreSQL or MariaDB, on a server of its own. Read as any client would."""

import json
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from tools.faults.small_disk import SmallDisk
from tools.faults.sql import make_user
from tools.services import MariaDBNode, PostgreSQLNode, statements
from tools.services.entered import Entered
from tools.services.sql_node import SQLNode
from tools.soak.log import MARIADB, OF_MODELS, POSTGRESQL, Document, Log
from tools.soak.plan import SERVICE
from tools.soak.service import SEEN

KINDS: dict[str, type[SQLNode]] = {POSTGRESQL: PostgreSQLNode, MARIADB: MariaDBNode}
USER = "service"
"""Whom the server knows the service's processes as."""

DISK_MB = 800
SMALL = {POSTGRESQL: ("-c", "max_wal_size=128MB"), MARIADB: ()}
"""What keeps a server from filling a small disk by itself."""

FIELDS = ("id", "stream", "category", "first", "time", "message", "headers", "events")
CONNECTIONS = {
    POSTGRESQL: "SELECT pid, application_name, state, query FROM pg_stat_activity "
    f"WHERE usename = '{USER}'",
    MARIADB: "SELECT id, command, time, info FROM information_schema.processlist "
    f"WHERE user = '{USER}'",
}


class SqlLog(Entered, Log):
    """The table `bus_commits`, in a database with a user of its own.

    With a `small_disk`, its server's data are on one that can be filled.
    """

    node: SQLNode

    def __init__(self, name: str, folder: Path, *, small_disk: bool = False) -> None:
        self.name = name
        self.disk = SmallDisk(DISK_MB) if small_disk else None
        self.node = KINDS[name](
            self.disk.folder / name if self.disk else folder,
            flags=SMALL[name] if self.disk else (),
        )

    def start(self) -> None:
        if self.disk and not self.disk.folder.exists():
            self.disk.start()
        self.node.start()
        if not self.url:
            self.node.create_database(SERVICE)
            self.url = make_user(self.node, USER, SERVICE)
            statements.run(self.url, f"CREATE TABLE {SEEN} (id VARCHAR(200) NOT NULL)")

    def end(self) -> None:
        self.node.close(remove=True)
        if self.disk:
            self.disk.end()

    def commits(self) -> list[Document]:
        rows = self._run(
            f"SELECT {', '.join(FIELDS)} FROM bus_commits WHERE category IN {OF_MODELS} "
            "ORDER BY stream, first"
        )
        return [_document(row) for row in rows]

    def pending(self) -> int:
        return int(self._run("SELECT count(*) FROM bus_commits WHERE pending")[0][0])

    def publish_again(self, category: str, *, skip: int, count: int) -> None:
        recent = (
            f"SELECT id FROM bus_commits WHERE category = '{category}' "
            f"ORDER BY time DESC LIMIT {count} OFFSET {skip}"
        )
        # MariaDB lets nobody change what a subquery reads, unless one more is around it.
        self._run(
            f"UPDATE bus_commits SET pending = true WHERE id IN (SELECT id FROM ({recent}) AS some)"
        )

    def noted(self) -> dict[str, int]:
        return dict(self._run(f"SELECT id, count(*) FROM {SEEN} GROUP BY id"))

    def connections(self) -> Sequence[str]:
        return connections_at(self.node, self.name)

    # --- what breaks ---------------------------------------------------------------------------

    def end_connections(self) -> None:
        """Have the server end all connections of the service, as an administrator does."""
        statements.end_connections(self.node.url_of(SERVICE))

    def set_password(self, password: str) -> None:
        """Let the service in by this password alone; who is in stays."""
        by = "PASSWORD" if self.name == POSTGRESQL else "IDENTIFIED BY"
        self.node.sql(f"ALTER USER {USER} {by} '{password}'")

    def _run(self, statement: str) -> statements.Rows:
        return self.node.sql(statement, database=SERVICE)


def connections_at(node: SQLNode, kind: str) -> Sequence[str]:
    """The service's connections to a server, in words."""
    return [f"left at {node.label}: {row}" for row in node.sql(CONNECTIONS[kind])]


def _document(row: tuple[Any, ...]) -> Document:
    """A commit as it would be in MongoDB."""
    id, *rest = row
    commit = dict(zip(FIELDS[1:], rest, strict=True), _id=id)
    # MariaDB's times come without a zone: they are in UTC.
    commit["time"] = commit["time"].replace(tzinfo=commit["time"].tzinfo or UTC)
    commit["headers"] = json.loads(commit["headers"] or "{}")
    commit["events"] = json.loads(commit["events"])
    return commit

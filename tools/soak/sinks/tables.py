"""Tables in PostgreSQL or MariaDB. Read as any client would, by their views."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tools.faults.proxy import Proxy
from tools.faults.sql import make_user, read_only
from tools.services import MariaDBNode, PostgreSQLNode, statements
from tools.services.sql_node import SQLNode
from tools.soak.plan import SERVICE
from tools.soak.sinks.plan import AMOUNTS, JOBS, MARIADB, POSTGRESQL, name_in
from tools.soak.sinks.store import Rows, Store
from tools.soak.sql_log import USER, connections_at

NODES: dict[str, type[SQLNode]] = {POSTGRESQL: PostgreSQLNode, MARIADB: MariaDBNode}


class TableStore(Store):
    """A database with a user of its own."""

    node: SQLNode

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.node = NODES[name](folder)
        self._url = ""

    def start(self) -> None:
        self.node.start()
        if not self._url:
            self.node.create_database(SERVICE)
            self._url = make_user(self.node, USER, SERVICE)
            self.wire = getattr(self, "wire", None) or Proxy(self._url)

    def wipe(self) -> None:
        self.node.wipe()
        self._url = ""

    def refusing(self) -> AbstractContextManager[None]:
        return read_only(self.node)

    def has(self, jobs: Collection[str]) -> set[str]:
        listed = ", ".join(f"'{job}'" for job in jobs)
        asked = f"SELECT id FROM {name_in(self.name, JOBS)} WHERE id IN ({listed})"
        return {id for (id,) in self.node.sql(asked, database=SERVICE, seconds=5)}

    def rows(self) -> Rows:
        return {JOBS: self._read(JOBS, "title", "revisions"), AMOUNTS: self._amounts()}

    def connections(self) -> Sequence[str]:
        return connections_at(self.node, self.name)

    def _amounts(self) -> dict[str, dict[str, object]]:
        return self._read(AMOUNTS, "times", "total")

    def _read(self, what: str, *columns: str) -> dict[str, dict[str, object]]:
        asked = f"SELECT id, {', '.join(columns)} FROM {name_in(self.name, what)}"
        found: statements.Rows = self.node.sql(asked, database=SERVICE)
        return {id: dict(zip(columns, values, strict=True)) for id, *values in found}

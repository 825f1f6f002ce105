"""A private MariaDB node, of Debian's packages or of a MariaDB on the PATH."""

from pathlib import Path
from typing import ClassVar

from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.packages import install
from tools.services.ports import LOOPBACK
from tools.services.sql_node import SQLNode, find, version_of

SERVER, INSTALLER = "mariadbd", "mariadb-install-db"
UNITS = ["mariadb.service"]
OTHERWISE = f"put {SERVER} and {INSTALLER} on the PATH, or set BUS_TEST_MARIADB_URL"

FLAGS = ("--max-connections=300",)  # of several test processes; later flags win


class MariaDBNode(SQLNode):
    """One MariaDB of our own; its administrator is `root`, who needs no password.

    It has MariaDB's defaults, not Debian's: names and texts are in latin1 where nobody says
    otherwise. `flags` are the server's, as `("--max-allowed-packet=1M",)`.
    """

    label: ClassVar[str] = "MariaDB"
    variable: ClassVar[str] = "BUS_TEST_MARIADB_URL"
    user: ClassVar[str] = "mysql"

    @property
    def url(self) -> str:
        return f"mysql+aiomysql://root@{LOOPBACK}:{self.port}/"

    @property
    def version(self) -> str:
        return version_of(programs()[0])

    # --- what a node must say of itself ------------------------------------------------------

    def _make_data(self) -> None:
        self._finish(
            *(str(programs()[1]), "--no-defaults", f"--datadir={self._data}", self._scratch),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )

    def _command(self) -> list[str]:
        return [
            *(str(programs()[0]), "--no-defaults", f"--datadir={self._data}", self._scratch),
            *(f"--port={self.port}", f"--bind-address={LOOPBACK}"),
            # Within its data: a whole path may be longer than a socket's name.
            *("--socket=server.sock", "--pid-file=server.pid"),
            *FLAGS,
            *self.flags,
        ]

    @property
    def _scratch(self) -> str:
        """Each server that starts removes what others have in a folder that they share."""
        return f"--tmpdir={self._place}"


def programs() -> tuple[Path, Path]:
    """The server and what makes its data; installs Debian's packages where they are missing.

    Raises `ServiceUnavailable` where they cannot be had.
    """
    if found := _found():
        return found
    with locked(cache_folder() / "install.lock"):
        if not _found():
            install(["mariadb-server"], units=UNITS, otherwise=OTHERWISE)
    if found := _found():
        return found
    raise ServiceUnavailable(f"mariadb-server is installed, but not on the PATH: {OTHERWISE}")


def _found() -> tuple[Path, Path] | None:
    server, installer = find(SERVER), find(INSTALLER)
    return (server, installer) if server and installer else None

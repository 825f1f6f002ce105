"""A private MySQL node: MySQL itself, from a root folder of its own, where root asks for it.

Debian's stable releases have MariaDB alone; its unstable one has MySQL, and the server from there
runs in a root of that release, which is made once (about 600 MB in this user's cache folder).
"""

import os
import subprocess
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tools.services import debian_root
from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.other_user import words_for
from tools.services.ports import LOOPBACK
from tools.services.progress import say
from tools.services.sql_node import SQLNode, version_of

SUITE, PACKAGE = "sid", "mysql-server-core"
PLACE = "DOUBLEDECKER_ROOTS"
MYSQLD = Path("/usr/sbin/mysqld")
WITHIN = Path("/srv")  # the node's place, as the server sees it

FLAGS = ("--max-connections=300",)  # of several test processes; later flags win


class MySQLNode(SQLNode):
    """One MySQL of our own; its administrator is `root`, who needs no password.

    `flags` are the server's, as `("--max-allowed-packet=1M",)`.
    """

    label: ClassVar[str] = "MySQL"
    variable: ClassVar[str] = "BUS_TEST_MYSQL_URL"
    user: ClassVar[str] = "mysql"

    @property
    def url(self) -> str:
        return f"mysql+aiomysql://root@{LOOPBACK}:{self.port}/"

    @property
    def version(self) -> str:
        return version_of(MYSQLD, "chroot", str(self._root))

    # --- what a node must say of itself ------------------------------------------------------

    def _make_data(self) -> None:
        self._finish(str(MYSQLD), "--no-defaults", "--initialize-insecure", self._where)

    def _command(self) -> list[str]:
        return [
            *(str(MYSQLD), "--no-defaults", self._where),
            *(f"--port={self.port}", f"--bind-address={LOOPBACK}", "--mysqlx=OFF"),
            *("--socket=server.sock", "--pid-file=server.pid", "--secure-file-priv=NULL"),
            *FLAGS,
            *self.flags,
        ]

    # --- within ----------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"--datadir={WITHIN / self._data.name}"

    def _as_user(self) -> list[str]:
        """Enter the root folder, where the node's place is to be seen, by mounts of one's own.

        Each word becomes the next, so that the process number stays the server's.
        """
        mount = f'mount --bind "$0" "$1{WITHIN}" && shift && exec chroot "$@"'
        return [
            *("unshare", "--mount", "--", "sh", "-c", mount, str(self._place)),
            *(str(self._root), str(self._root)),
            *words_for(self.user),
        ]

    @property
    def _owner(self) -> int:
        # The machine has no such user, or one of another number.
        return _number_of_user(self._root) or 0

    @cached_property
    def _root(self) -> Path:
        return root()


def root() -> Path:
    """The root folder with MySQL in it; makes it where it is missing.

    Raises `ServiceUnavailable` where it cannot be made.
    """
    if os.geteuid() != 0:
        raise ServiceUnavailable(
            "MySQL runs from a root folder of its own, which only root makes and enters: run this "
            "as root, or set BUS_TEST_MYSQL_URL to a MySQL of yours"
        )
    place = os.environ.get(PLACE)
    folder = (Path(place) if place else cache_folder() / "roots").resolve() / "mysql"
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            say(f"Making a root with MySQL in {folder} (once, a minute or two) ...")
            debian_root.make(folder, SUITE, signed=False, packages=[PACKAGE])
        _make_user(folder)
    return folder


def _make_user(folder: Path) -> None:
    """Make the server's user in the root folder, where it is missing: its package makes none."""
    if _number_of_user(folder) is None:
        words = ["useradd", "--system", "--user-group", "--no-create-home", MySQLNode.user]
        subprocess.run(["chroot", str(folder), *words], capture_output=True, check=True)


def _number_of_user(folder: Path) -> int | None:
    users = [line.split(":") for line in (folder / "etc/passwd").read_text().splitlines()]
    return next((int(number) for name, _, number, *_ in users if name == MySQLNode.user), None)

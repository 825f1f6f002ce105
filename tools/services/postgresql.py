"""A private PostgreSQL node, of Debian's packages or of a PostgreSQL on the PATH."""

import signal
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.node import STOP_SECONDS
from tools.services.packages import install
from tools.services.ports import LOOPBACK, wait_until
from tools.services.process import ServerProcess, children_of
from tools.services.sql_node import SQLNode, find, version_of

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
UNITS = ["postgresql.service"]
OTHERWISE = "put the folder of `postgres` on the PATH, or set BUS_TEST_POSTGRESQL_URL"

FLAGS = (
    *("-c", "max_connections=300"),  # of several test processes; later flags win
    *("-c", "dynamic_shared_memory_type=mmap"),  # files among its data, which go with them
)

# The administrator comes in as is, so that nobody has to know a password; all others as elsewhere.
WHO_COMES_IN = f"""\
host all postgres {LOOPBACK}/32 trust
host replication postgres {LOOPBACK}/32 trust
host all all {LOOPBACK}/32 scram-sha-256
"""

PROMOTE_SECONDS = 60.0

MEMORY_LINE = 7  # of postmaster.pid: the key and the number of its shared memory


class PostgreSQLNode(SQLNode):
    """One PostgreSQL of our own; its administrator is `postgres`, who needs no password.

    `standby_of` makes it a copy of a node that runs, which it follows until it is promoted.
    `flags` are the server's, as `("-c", "max_connections=5")`.
    """

    label: ClassVar[str] = "PostgreSQL"
    variable: ClassVar[str] = "BUS_TEST_POSTGRESQL_URL"
    user: ClassVar[str] = "postgres"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        flags: Sequence[str] = (),
        standby_of: "PostgreSQLNode | None" = None,
        detached: bool = False,
    ) -> None:
        super().__init__(folder, port=port, flags=flags, detached=detached)
        self.primary = standby_of

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@{LOOPBACK}:{self.port}/postgres"

    @property
    def version(self) -> str:
        return version_of(self._program("postgres"))

    # --- what breaks -------------------------------------------------------------------------

    def stop(self) -> None:
        """End cleanly, without waiting for clients to go; `start` brings it back."""
        if self.running:
            # What is frozen would never end.
            self.resume()
            self._running_process().stop(STOP_SECONDS, by=signal.SIGINT)

    def kill(self) -> None:
        """Crash, all of its processes at once; `start` brings it back."""
        if not self.running:
            return
        # Frozen, it starts no further ones.
        self._running_process().freeze()
        children = self._children()
        super().kill()
        for child in children:
            child.kill()

    def close(self, *, remove: bool = False) -> None:
        if remove:
            self.kill()
            self._give_back_memory()
        super().close(remove=remove)

    def pause(self) -> None:
        """Freeze: connections stay open and nothing answers."""
        super().pause()
        for child in self._children():
            child.freeze()

    def resume(self) -> None:
        for child in self._children():
            child.signal(signal.SIGCONT)
        super().resume()

    def promote(self) -> None:
        """Make a standby take writes, and return when it does."""
        self.sql("SELECT pg_promote()")
        if not wait_until(lambda: not self.follows, PROMOTE_SECONDS):
            raise ServiceUnavailable(f"{self.label} in {self.folder} was not promoted")

    @property
    def follows(self) -> bool:
        """Whether it is a standby now."""
        return bool(self.sql("SELECT pg_is_in_recovery()")[0][0])

    # --- what a node must say of itself ------------------------------------------------------

    def _make_data(self) -> None:
        if self.primary is not None:
            self._copy(self.primary)
            return
        self._finish(
            *(str(self._program("initdb")), "--pgdata", str(self._data), "--no-sync"),
            *("--username=postgres", "--auth=trust", "--locale=C.UTF-8", "--encoding=UTF8"),
        )
        (self._data / "pg_hba.conf").write_text(WHO_COMES_IN)

    def _copy(self, primary: "PostgreSQLNode") -> None:
        self._finish(
            *(str(self._program("pg_basebackup")), "--pgdata", str(self._data), "--no-sync"),
            *("--host", LOOPBACK, "--port", str(primary.port), "--username=postgres"),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"),
        )

    def _command(self) -> list[str]:
        return [
            *(str(self._program("postgres")), "-D", str(self._data), "-p", str(self.port)),
            *("-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="),
            *FLAGS,
            *self.flags,
        ]

    # --- within ----------------------------------------------------------------------------

    def _give_back_memory(self) -> None:
        """Remove the shared memory of a crashed server, which would be there until the next boot.

        A later start in the same folder would have done it.
        """
        file = self._data / "postmaster.pid"
        if not file.exists():
            return
        lines = file.read_text().splitlines()
        if len(lines) >= MEMORY_LINE:
            number = lines[MEMORY_LINE - 1].split()[-1]
            subprocess.run(["ipcrm", "--shmem-id", number], capture_output=True, check=False)

    def _children(self) -> list[ServerProcess]:
        return children_of(self.pid)

    def _program(self, name: str) -> Path:
        return self._programs / name

    @cached_property
    def _programs(self) -> Path:
        return programs()


def programs() -> Path:
    """The folder with `postgres` and `initdb`; installs Debian's packages where there is none.

    Raises `ServiceUnavailable` where they cannot be had.
    """
    if found := _newest():
        return found
    with locked(cache_folder() / "install.lock"):
        if not _newest():
            install(["postgresql"], units=UNITS, otherwise=OTHERWISE)
    if found := _newest():
        return found
    raise ServiceUnavailable(f"postgresql is installed, but not in {DEBIAN_FOLDER}: {OTHERWISE}")


def _newest() -> Path | None:
    folders = [file.parent for file in DEBIAN_FOLDER.glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: float(folder.parent.name))
    on_path = find("initdb")
    return on_path.parent if on_path and find("postgres", on_path.parent) else None

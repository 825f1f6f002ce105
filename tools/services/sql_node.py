"""What nodes of SQL databases have in common: a user of their own, statements, databases."""

import os
import re
import shutil
import subprocess
import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

from tools.services import statements
from tools.services.errors import ServiceUnavailable
from tools.services.node import Node
from tools.services.other_user import Owner, make_place, place_of, words_for
from tools.services.ports import LOOPBACK, answers
from tools.services.process import ServerProcess

# Debian keeps servers where an ordinary user's PATH does not look.
ELSEWHERE = "/usr/local/sbin:/usr/sbin:/sbin"


class SQLNode(Node):
    """One private database server; it asks those who come from this machine for no password.

    Run by root, it runs as the user that the database's package has made. It flushes to disk as
    it does by default. `flags` go to the server besides ours.
    """

    user: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        flags: Sequence[str] = (),
        detached: bool = False,
    ) -> None:
        super().__init__(folder, port=port, detached=detached)
        self.flags = flags

    @abstractmethod
    def _make_data(self) -> None:
        """Write the data of a new server into `_data`."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The server's command."""

    # --- what it is asked for ----------------------------------------------------------------

    def sql(
        self, *lines: str, database: str = "", seconds: float = statements.SECONDS
    ) -> statements.Rows:
        """Run statements as the administrator; returns the rows of the last."""
        return statements.run(self.url_of(database), *lines, seconds=seconds)

    def url_of(self, database: str) -> str:
        """The URL of a database on it; without a name, that of the administrator's."""
        return statements.of_database(self.url, database) if database else self.url

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        return statements.create_database(self.url, name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, with the connections that it still has."""
        statements.drop_database(self.url, name)

    def wipe(self) -> None:
        """Crash where it runs, and delete its data: `start` brings it back empty."""
        self.kill()
        self._made.unlink(missing_ok=True)

    def close(self, *, remove: bool = False) -> None:
        place = place_of(self.folder)
        super().close(remove=remove)
        if remove:
            shutil.rmtree(place, ignore_errors=True)

    # --- what a node must say of itself ------------------------------------------------------

    def _prepare(self) -> None:
        make_place(self.folder, self._owner)
        if not self._made.exists():
            shutil.rmtree(self._data, ignore_errors=True)
            self._make_data()
            self._made.touch()

    def _launch(self) -> ServerProcess:
        return ServerProcess.start(
            self._command(),
            environment=self._environment(),
            log=self._log,
            detached=self.detached,
            prefix=self._as_user(),
        )

    def _await_ready(self, deadline: float) -> None:
        while not (answers(LOOPBACK, self.port) and self._works()):
            self._still_starting(deadline)
            time.sleep(0.02)

    def _log_files(self) -> list[Path]:
        return [self._log]

    # --- within ----------------------------------------------------------------------------

    @property
    def _place(self) -> Path:
        return place_of(self.folder)

    @property
    def _data(self) -> Path:
        return self._place / "data"

    @property
    def _made(self) -> Path:
        """There once the data are whole."""
        return self.folder / "made"

    @property
    def _log(self) -> Path:
        return self.folder / "server.out"

    def _works(self) -> bool:
        try:
            self.sql("SELECT 1", seconds=5)
        except statements.REFUSALS:
            return False
        return True

    @property
    def _owner(self) -> Owner:
        return self.user

    def _as_user(self) -> list[str]:
        return words_for(self.user)

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's but the PATH; the folder's name tells whose a process is."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._place),
            "DOUBLEDECKER_NODE": str(self.folder),
        }

    def _finish(self, *words: str) -> None:
        """Run a program as the server's user, to its end.

        Raises `ServiceUnavailable` where it fails.
        """
        done = subprocess.run(
            [*self._as_user(), *words],
            cwd="/",
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self._log.write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise ServiceUnavailable(self._failure(f"{Path(words[0]).name} failed"))


def find(name: str, *folders: Path) -> Path | None:
    """The program in one of the folders, else on the PATH or where servers are."""
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{ELSEWHERE}")
    return Path(found) if found else None


@cache
def version_of(program: Path, *prefix: str) -> str:
    """The version that a server's program tells, as `15.18`."""
    done = subprocess.run(
        [*prefix, str(program), "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"(\d+(\.\d+)+)", done.stdout)
    if found is None:
        raise ServiceUnavailable(
            f"{program} does not run: {(done.stderr or done.stdout).strip()}: mend that, or "
            "install its package anew"
        )
    return found[1]

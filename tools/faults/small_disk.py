"""A disk of some megabytes, which is soon full.

    with SmallDisk(200) as disk, PostgreSQLNode(disk.folder / "node") as node:
        disk.fill()

Needs root; `available()` says whether it works here.
"""

import errno
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tools.services.entered import Entered
from tools.services.errors import CommandFailed, ServiceError

CHUNK = 65_536


class SmallDisk(Entered):
    """A disk in memory, at `folder`, through which every user may pass."""

    def __init__(self, megabytes: int) -> None:
        self.megabytes = megabytes
        self.folder = Path(tempfile.gettempdir()) / f"disk-{os.urandom(6).hex()}"

    def start(self) -> None:
        """Make it, empty. Raises `CommandFailed`."""
        self.folder.mkdir()
        size = f"size={self.megabytes}m,mode=711"
        _run("mount", "-t", "tmpfs", "-o", size, "doubledecker", str(self.folder))

    def end(self) -> None:
        if self.folder.is_mount():
            # Whoever still has a file open there does not hold it up.
            _run("umount", "--lazy", str(self.folder))
        if self.folder.exists():
            self.folder.rmdir()

    def fill(self, leave: int = 0) -> None:
        """Take all the room there is, but for `leave` bytes."""
        room = os.statvfs(self.folder)
        left = max(room.f_bavail * room.f_frsize - leave, 0)
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while left > 0:
                    left -= file.write(bytes(min(CHUNK, left)))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"


@cache
def available() -> bool:
    """Whether a disk can be made here: it needs root, and a machine that lets it mount one."""
    if os.geteuid() != 0:
        return False
    try:
        with SmallDisk(1):
            return True
    except ServiceError:
        return False


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)} failed: {done.stderr.strip()}")

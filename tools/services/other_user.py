"""Servers that refuse to run as root: as which user they run, and a folder that it reaches."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from tools.services.errors import ServiceUnavailable

Owner = str | int  # a user by name or number

TOP = 2  # how many parts the path of a folder has that is directly in the root

PLACE = "server"  # in a node's folder: the folder that is the server's, or a link to it


def words_for(user: str) -> list[str]:
    """The words before a command that run it as `user`; none where we are not root.

    They become the command, which so keeps its process number. Raises `ServiceUnavailable` where
    there is no program for it.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise ServiceUnavailable(
            f"a server cannot be run as the user {user} without `setpriv`: install util-linux"
        )
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]


def place_of(folder: Path) -> Path:
    """Where the server's own folder is, if `make_place` made one."""
    return (folder / PLACE).resolve()


def make_place(folder: Path, user: Owner) -> Path:
    """The server's own folder, in a node's `folder`; it stays the same for the folder's life.

    Run as root, it belongs to `user`, to whom the folders of root's are closed: there, as in
    pytest's, it lies in the one for temporary files, or the next above that is open, and a link
    leads to it. Raises `ServiceUnavailable` where there is none.
    """
    place = folder / PLACE
    if place.is_dir():
        return place.resolve()
    place.unlink(missing_ok=True)  # a link to what is gone
    if os.geteuid() != 0:
        place.mkdir()
    elif _is_open(folder):
        place.mkdir(mode=0o700)
        shutil.chown(place, user, user)
    else:
        place.symlink_to(_temporary(folder, user))
    return place.resolve()


def _temporary(folder: Path, user: Owner) -> Path:
    usual = Path(tempfile.gettempdir())
    above = next((path for path in (usual, *usual.parents) if _holds_temporary(path)), None)
    if above is None:
        raise ServiceUnavailable(
            f"the user {user} can reach neither {folder} nor {usual}: set TMPDIR to a folder that "
            "all users may pass (chmod o+x, for those above it as well)"
        )
    made = tempfile.mkdtemp(prefix="doubledecker-server-", dir=above)
    shutil.chown(made, user, user)
    return Path(made)


def _holds_temporary(folder: Path) -> bool:
    """Whether a server's folder may be put there; not into /home, say, if /home/me is closed."""
    shared = folder.stat().st_mode & stat.S_ISVTX != 0
    return _is_open(folder) and (shared or len(folder.parts) > TOP)


def _is_open(folder: Path) -> bool:
    """Whether any user may pass through it."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))

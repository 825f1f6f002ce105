"""RabbitMQ's programs: found, or installed from Debian's packages.

DOUBLEDECKER_RABBITMQ may name the folder with `rabbitmq-server` in it.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.packages import install

FOLDER_VARIABLE = "DOUBLEDECKER_RABBITMQ"

# The scripts of the same names on the PATH change to the system's user first; these do not.
DEBIAN_FOLDER = Path("/usr/lib/rabbitmq/bin")

EPMD = "epmd"


def scripts() -> Path:
    """The folder with `rabbitmq-server` and `rabbitmqctl`; installs Debian's where there is none.

    Raises `ServiceUnavailable` where it cannot be had.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return _checked(Path(named))
    if not _has_server(DEBIAN_FOLDER):
        with locked(cache_folder() / "install.lock"):
            _install()
    return DEBIAN_FOLDER


def _has_server(folder: Path) -> bool:
    return (folder / "rabbitmq-server").exists()


def _checked(folder: Path) -> Path:
    if not _has_server(folder):
        raise ServiceUnavailable(
            f"{FOLDER_VARIABLE} names {folder}, where no rabbitmq-server is: correct or unset it"
        )
    return folder


def _install() -> None:
    units = ["rabbitmq-server.service"]
    if shutil.which(EPMD) is None:
        units += ["epmd.service", "epmd.socket"]
    install(["rabbitmq-server"], units=units)
    if not _has_server(DEBIAN_FOLDER):
        raise ServiceUnavailable(
            f"rabbitmq-server is installed, but not in {DEBIAN_FOLDER}: set {FOLDER_VARIABLE} to "
            "the folder that has it"
        )


def version(folder: Path) -> str:
    place = str((folder / "rabbitmq-server").resolve())
    found = re.search(r"rabbitmq_server-([^/]+)", place)
    return found[1] if found else "of unknown version"


def epmd() -> str:
    found = shutil.which(EPMD)
    if found is None:
        raise ServiceUnavailable(
            "epmd is not on the PATH, and RabbitMQ cannot start without it: "
            "run `apt-get install erlang-base`"
        )
    return found


def link_lean_copy(scripts_folder: Path, home: Path, *, plugins: Sequence[str] = ()) -> None:
    """Link the installation without its optional plugins: the node starts in about half the time.

    Erlang looks for each of its modules in every plugin's folder, enabled or not. With `plugins`,
    which need others, all are there.
    """
    installation = (scripts_folder / "rabbitmq-server").resolve().parent.parent
    folder = home / "plugins"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in ("sbin", "escript"):
        _link(home / part, installation / part)
    for entry in (installation / "plugins").iterdir():
        if plugins or _is_needed(entry.name):
            _link(folder / entry.name, entry)


def _is_needed(plugin: str) -> bool:
    return not plugin.startswith("rabbitmq_") or plugin.startswith("rabbitmq_prelaunch")


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)

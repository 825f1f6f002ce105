"""The root folders of other releases: made once, and brought up to date before each use."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tools.services import debian_root
from tools.services.cache import cache_folder
from tools.services.debian_root import APART, lines_of
from tools.services.progress import say

CHECKOUT = Path(__file__).resolve().parents[2]
PLACE = "DOUBLEDECKER_ROOTS"
WITHIN = "doubledecker"  # the checkout's copy, in the root

# What belongs to this machine or to one run; the virtual environment is the root's own.
_OURS = (".git", ".venv", ".venv-peers", ".services", ".hypothesis", ".coverage*", "*_cache")
LEFT_OUT = shutil.ignore_patterns(*_OURS, "__pycache__", "*.egg-info", "build", "dist")

# How this machine reaches package registries, which the root must know as well. The certificates
# get a place that no package of the root writes to.
CERTIFICATES = "etc/machines-certificates.pem"
MACHINES_FILES = {
    "etc/hosts": "etc/hosts",
    "etc/resolv.conf": "etc/resolv.conf",
    "etc/pip.conf": "etc/pip.conf",
    "etc/ssl/certs/ca-certificates.crt": CERTIFICATES,
}
_PIPS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
KEPT_VARIABLES = (*_PIPS, "http_proxy", "https_proxy", "no_proxy", "TERM")


class Release(NamedTuple):
    """A release by its code name; `signed` where this machine knows the key it is signed with."""

    suite: str
    signed: bool = True


RELEASES = {
    "debian12": Release("bookworm"),
    "debian13": Release("trixie"),
    "forky": Release("forky", signed=False),
}


def folder_of(release: Release) -> Path:
    place = os.environ.get(PLACE)
    return (Path(place) if place else cache_folder() / "roots").resolve() / release.suite


def prepare(release: Release, root: Path) -> None:
    """Make the root where it is missing, and copy this checkout into it.

    Raises `ServiceUnavailable` where it cannot be made.
    """
    if not root.exists():
        _make(release, root)
    for source, target in MACHINES_FILES.items():
        _copy_file(Path("/") / source, root / target)
    _write(root / "etc/apt/apt.conf.d/90machine", _how_apt_fetches())
    # A package's server is not started: the tests start nodes of their own.
    _write(root / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n").chmod(0o755)
    copy_checkout(root / WITHIN)


def _make(release: Release, root: Path) -> None:
    say(f"Making a root of Debian {release.suite} in {root} (once, a minute or two) ...")
    debian_root.make(root, release.suite, signed=release.signed)


def _how_apt_fetches() -> str:
    """This machine's settings for fetching packages, such as a proxy, in apt's own syntax."""
    lines = lines_of("apt-config", "dump")
    return "".join(f"{line}\n" for line in lines if line.startswith("Acquire::"))


def copy_checkout(target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in target.iterdir():
        if entry.name != ".venv":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(CHECKOUT, target, ignore=LEFT_OUT, dirs_exist_ok=True)


def _copy_file(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def command_in(root: Path, command: Sequence[str]) -> list[str]:
    """The command, run in the root; all that it starts ends with it."""
    return [*APART, str(Path(__file__).with_name("enter")), str(root), *command]


def environment(root: Path) -> dict[str, str]:
    """What a command in a root is told: nothing of this machine but how to reach registries."""
    told = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    if (root / CERTIFICATES).exists():
        told |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), f"/{CERTIFICATES}")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**told, "PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}

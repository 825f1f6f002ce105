"""Debian packages, installed where we may, or unpacked; no system service is left behind by that.

Debian starts a packaged server once it is installed, and at each boot from then on. Where systemd
runs, the units are masked until the next boot while apt works, and disabled after that, so that
our private nodes are the only ones. Where it does not (containers), Debian starts nothing.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.progress import say

NO_INSTALL = "DOUBLEDECKER_NO_INSTALL"


def programs(
    *names: str, packages: Sequence[str], units: Sequence[str] = (), otherwise: str = ""
) -> list[str]:
    """Where these programs are; installs the packages where one is not on the PATH.

    `units` are what the packages would have systemd start, `otherwise` is what may be done besides
    to do without them.

    Raises `ServiceUnavailable` where they cannot be had.
    """
    if missing(names):
        other = f", or {otherwise}" if otherwise else ""
        with locked(cache_folder() / "install.lock"):
            if missing(names):
                remedy = f"put {' and '.join(names)} on the PATH{other}"
                install(packages, units=units, otherwise=remedy)
    if absent := missing(names):
        raise ServiceUnavailable(f"installed, but not on the PATH: {', '.join(absent)}")
    return [found for name in names if (found := shutil.which(name))]


def missing(names: Sequence[str]) -> list[str]:
    """Those of the programs that are not on the PATH."""
    return [name for name in names if shutil.which(name) is None]


def install(
    packages: Sequence[str], *, units: Sequence[str] = (), otherwise: str = "start Docker"
) -> None:
    """Install Debian packages; raises `ServiceUnavailable` with the reason where that fails.

    `otherwise` is what may be done instead of installing them.
    """
    names = " ".join(packages)
    as_root = _as_root(names, otherwise)
    say(f"Installing {names} from the system's packages (once) ...")
    masked = list(units) if Path("/run/systemd/system").is_dir() else []
    _systemctl(as_root, "mask", "--runtime", masked)
    try:
        _apt_get(as_root, ["update"])
        done = _apt_get(as_root, ["install", "--yes", "--no-install-recommends", *packages])
    finally:
        _systemctl(as_root, "unmask", "--runtime", masked)
    _systemctl(as_root, "disable", "--now", masked)
    # A failed update of one source out of many need not matter: the installation tells.
    if done.returncode != 0:
        raise ServiceUnavailable(
            f"apt-get could not install {names}: {_last_words(done)}. Mend that, run "
            f"`apt-get install {names}` yourself, or {otherwise}"
        )


def unpacked(package: str, *, otherwise: str) -> Path:
    """A folder of this user's with a Debian package's files; downloads it where it is not there.

    Nothing is installed, what it depends on neither, and no program of its is run: that needs no
    root. `otherwise` is what may be done instead.

    Raises `ServiceUnavailable` where it cannot be had.
    """
    folder = cache_folder() / "packages" / f"{package}-{_release()}"
    if not folder.exists():
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                _unpack(package, folder, otherwise)
    return folder


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def _unpack(package: str, folder: Path, otherwise: str) -> None:
    """Fill the folder, whole or not at all."""
    if absent := missing(["apt-get", "dpkg-deb"]):
        raise ServiceUnavailable(
            f"{package} is missing and this system has no {absent[0]}: {otherwise}"
        )
    say(f"Fetching {package} from the system's packages (once) ...")
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    if _download(package, fresh).returncode != 0:  # the lists of packages are missing, or too old
        _apt_get(_as_root(package, otherwise), ["update"])
        done = _download(package, fresh)
        if done.returncode != 0:
            raise ServiceUnavailable(
                f"apt-get could not download {package}: {_last_words(done)}. Mend that, or "
                f"{otherwise}"
            )
    (file,) = fresh.glob("*.deb")
    done = subprocess.run(
        ["dpkg-deb", "--extract", str(file), str(fresh)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceUnavailable(
            f"{package} cannot be unpacked: {_last_words(done)}. Mend that, or {otherwise}"
        )
    file.unlink()
    fresh.rename(folder)


def _download(package: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["apt-get", "--quiet", "download", package],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _as_root(names: str, otherwise: str) -> list[str]:
    """The words before a command that make it run as root."""
    remedy = f"run `apt-get install {names}` yourself, or {otherwise}"
    if os.environ.get(NO_INSTALL):
        raise ServiceUnavailable(f"{names} is missing and {NO_INSTALL} is set: {remedy}")
    if shutil.which("apt-get") is None:
        raise ServiceUnavailable(
            f"{names} is missing and this system has no apt-get: install it your system's way, "
            f"or {otherwise}"
        )
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _succeeds(["sudo", "-n", "true"]):
        return ["sudo", "-n"]
    raise ServiceUnavailable(f"{names} is missing and only root may install it: {remedy}")


def _apt_get(
    as_root: Sequence[str], arguments: Sequence[str]
) -> "subprocess.CompletedProcess[str]":
    command = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]
    waiting = ["--option", "DPkg::Lock::Timeout=120"]
    return subprocess.run(
        [*command, *waiting, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _last_words(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return " / ".join(lines[-3:]) or f"exit status {done.returncode}"


def _systemctl(as_root: Sequence[str], verb: str, option: str, units: Sequence[str]) -> None:
    if units:
        subprocess.run(
            [*as_root, "systemctl", verb, option, *units], capture_output=True, check=False
        )


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0

"""Debian packages, installed where we may; no system service is left behind by that.

Debian starts a packaged server once it is installed, and at each boot from then on. Where systemd
runs, the units are masked until the next boot while apt works, and disabled after that, so that
our private nodes are the only ones. Where it does not (containers), Debian starts nothing.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.services.errors import ServiceUnavailable
from tools.services.progress import say

NO_INSTALL = "DOUBLEDECKER_NO_INSTALL"


def install(packages: Sequence[str], *, units: Sequence[str] = ()) -> None:
    """Install Debian packages; raises `ServiceUnavailable` with the reason where that fails."""
    names = " ".join(packages)
    as_root = _as_root(names)
    say(f"Installing {names} from the system's packages (once) ...")
    masked = list(units) if Path("/run/systemd/system").is_dir() else []
    _systemctl(as_root, "mask", "--runtime", masked)
    try:
        _apt_get(as_root, names, ["update"], required=False)
        _apt_get(as_root, names, ["install", "--yes", "--no-install-recommends", *packages])
    finally:
        _systemctl(as_root, "unmask", "--runtime", masked)
    _systemctl(as_root, "disable", "--now", masked)


def _as_root(names: str) -> list[str]:
    """The words before a command that make it run as root."""
    remedy = f"run `apt-get install {names}` yourself, or start Docker"
    if os.environ.get(NO_INSTALL):
        raise ServiceUnavailable(f"{names} is missing and {NO_INSTALL} is set: {remedy}")
    if shutil.which("apt-get") is None:
        raise ServiceUnavailable(
            f"{names} is missing and this system has no apt-get: install it your system's way, "
            "or start Docker"
        )
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _succeeds(["sudo", "-n", "true"]):
        return ["sudo", "-n"]
    raise ServiceUnavailable(f"{names} is missing and only root may install it: {remedy}")


def _apt_get(
    as_root: Sequence[str], names: str, arguments: Sequence[str], *, required: bool = True
) -> None:
    command = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]
    waiting = ["--option", "DPkg::Lock::Timeout=120"]
    done = subprocess.run(
        [*command, *waiting, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    # A failed update of one source out of many need not matter: the installation tells.
    if required and done.returncode != 0:
        raise ServiceUnavailable(
            f"apt-get could not install {names}: {_last_words(done)}. Mend that, run "
            f"`apt-get install {names}` yourself, or start Docker"
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

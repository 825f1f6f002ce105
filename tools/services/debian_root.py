"""A root folder with a release of Debian in it, made from this machine's own package sources."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.services.errors import ServiceUnavailable
from tools.services.packages import programs

# What a command mounts and starts is its own, and ends with it, even with SIGKILL.
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
SCRIPTS = Path("/usr/share/debootstrap/scripts")


def make(root: Path, suite: str, *, signed: bool = True, packages: Sequence[str] = ()) -> None:
    """Make the root of a release, with what is essential and `packages`, whole or not at all.

    `signed` where this machine knows the key that the release is signed with. Raises
    `ServiceUnavailable` where it cannot be made.
    """
    (debootstrap,) = programs("debootstrap", packages=["debootstrap"])
    fresh = root.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    log = root.with_suffix(".log")
    options = ["--variant=minbase", *([] if signed else ["--no-check-gpg"])]
    options += [f"--include={','.join(packages)}"] if packages else []
    with log.open("w") as output:
        done = subprocess.run(
            [*APART, debootstrap, *options, suite, str(fresh), *_source(suite)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        last = " / ".join(log.read_text().strip().splitlines()[-3:])
        raise ServiceUnavailable(f"debootstrap could not make {fresh}: {last}. All of it: {log}")
    fresh.rename(root)


def lines_of(*command: str) -> list[str]:
    """What a command prints, without its empty lines."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.strip()]


def _source(suite: str) -> list[str]:
    """Where the packages are, and how to make a release younger than this machine's debootstrap."""
    known = (SCRIPTS / suite).exists()
    return [_archive(), *([] if known else [str(SCRIPTS / "sid")])]


def _archive() -> str:
    """The archive that this machine's own packages come from."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    wanted = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    found = [line.split() for line in lines_of("apt-get", "indextargets", "--format", wanted)]
    fitting = [one for one in found if one[1:3] == [own, "main"]]
    fitting.sort(key=lambda one: "Debian" not in one[3:])
    if not fitting:
        raise ServiceUnavailable(
            f"this machine's package sources name no archive of Debian's {own or 'release'}, "
            f"where other releases would be: run this on Debian"
        )
    return fitting[0][0]

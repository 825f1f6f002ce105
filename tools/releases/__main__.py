"""The command line of `--on RELEASE`: python -m tools.releases PROGRAM RELEASE ARGUMENTS ..."""

import os
import subprocess
import sys
from collections.abc import Sequence

from tools.releases import roots
from tools.services import command
from tools.services.cache import locked
from tools.services.errors import ServiceError
from tools.services.progress import say

FAILED, WRONG_USAGE = 1, 2


def main(arguments: Sequence[str]) -> int:
    program, release, *others = (*arguments, "")[: max(len(arguments), 2)]
    if release not in roots.RELEASES:
        say(f"{program} --on {release}: give one of {', '.join(roots.RELEASES)}")
        return WRONG_USAGE
    if os.geteuid() != 0:
        say(f"{program} --on {release} makes and enters a root folder: run it as root")
        return WRONG_USAGE
    command.leave_on_signals()
    try:
        return _run(roots.RELEASES[release], [program, *others])
    except ServiceError as error:
        say(str(error))
        return FAILED


def _run(release: roots.Release, words: Sequence[str]) -> int:
    root = roots.folder_of(release)
    busy = f"Waiting for another run in {root} ..."
    with locked(root.with_suffix(".lock"), waiting=lambda: say(busy)):
        roots.prepare(release, root)
        say(f"Running {' '.join(words)} in {root} ...")
        child = subprocess.Popen(roots.command_in(root, words), env=roots.environment(root))
        try:
            status = child.wait()
        finally:
            # The kernel then ends all that runs in there, and takes the mounts away.
            child.kill()
            child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

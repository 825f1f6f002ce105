"""Builds the documentation site, and fails at a dead link."""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.docs.links import problems_of
from tools.docs.pages import ROOT, copy
from tools.services.ports import LOOPBACK

BUILT = ROOT / "build" / "docs"
ZENSICAL = (sys.executable, "-m", "zensical")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"Traceback|  ")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/docs", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["build", "serve"], default="build")
    parser.add_argument("--check", action="store_true", help="build into a temporary folder")
    parser.add_argument("--port", type=int, default=8000, help="of `serve`, on the loopback")
    chosen = parser.parse_args()
    if chosen.what == "serve":
        serve(BUILT, chosen.port)
    elif chosen.check:
        with tempfile.TemporaryDirectory(prefix="doubledecker-docs-") as folder:
            build(Path(folder))
    else:
        build(BUILT)
        print(BUILT / "site" / "index.html")


def build(folder: Path) -> None:
    """Builds the site in the folder. Ends the program where a link leads nowhere, a name of the
    reference is not there, or a page loads something from another host."""
    copy(folder)
    zensical = subprocess.run(
        [*ZENSICAL, "build", "--strict", "--clean"], cwd=folder, capture_output=True, text=True
    )
    if zensical.returncode:
        sys.exit(f"{_said(zensical)}\nbin/docs: the site was not built; see above")
    if problems := [*problems_of(folder / "site")]:
        sys.exit("\n".join(["bin/docs: the site is built, and not as it must be", *problems]))


def _said(zensical: subprocess.CompletedProcess[str]) -> str:
    """What it found, in plain text, without the frames of its own error."""
    errors = [line for line in zensical.stderr.splitlines() if not _FRAME.match(line)]
    return _COLOUR.sub("", "\n".join([zensical.stdout.strip(), *errors]))


def serve(folder: Path, port: int) -> None:
    """Serves the site, and builds anew what is edited meanwhile, until it is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    copy(folder)
    server = subprocess.Popen([*ZENSICAL, "serve", "--dev-addr", f"{LOOPBACK}:{port}"], cwd=folder)
    try:
        while server.poll() is None:
            time.sleep(0.5)
            copy(folder)
        sys.exit(server.returncode)
    except KeyboardInterrupt:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

"""Servers of a test's own, which it may break."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tools.services.node import Node
from tools.services.ports import wait_until

AnyNode = TypeVar("AnyNode", bound=Node)


@contextmanager
def lent(node: AnyNode) -> Iterator[AnyNode]:
    """Runs it for the block; nobody reads its data afterwards, so it is not ended cleanly."""
    try:
        node.start()
        yield node
    finally:
        node.close(remove=True)


def revive(*nodes: Node) -> None:
    """Has them run, whatever a test that failed has left: frozen, or ended."""
    for node in nodes:
        if node.running:
            node.resume()
        else:
            node.start()


def processes_of(folder: Path) -> list[str]:
    """The processes, of whatever parent, that were started for a folder."""
    return [
        directory.name
        for directory in Path("/proc").iterdir()
        if directory.name.isdigit() and mentions(directory, str(folder).encode())
    ]


def mentions(process: Path, name: bytes) -> bool:
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        return any(name in (process / part).read_bytes() for part in ("cmdline", "environ"))
    except OSError:
        return False


def nothing_runs_in(folder: Path) -> bool:
    return wait_until(lambda: not processes_of(folder), seconds=10)

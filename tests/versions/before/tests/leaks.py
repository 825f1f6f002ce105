"""That nothing is left behind: no task in the loop, no connection to a broker or database."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tools.services.ports import places

ESTABLISHED = "01"
WITHIN = 5.0


@asynccontextmanager
async def nothing_left(*urls: str, within: float = WITHIN) -> AsyncIterator[None]:
    """Tasks and connections to these servers that are begun in the block end with it, or soon."""
    ports = {port for url in urls for one in _single(url) for _, port in places(one)}
    before = _tasks() | _connections(ports)
    yield
    deadline = time.monotonic() + within
    while left := (_tasks() | _connections(ports)) - before:
        assert time.monotonic() < deadline, f"left behind: {sorted(left)}"
        await asyncio.sleep(0.05)


def _single(url: str) -> list[str]:
    return re.split(r",(?=amqps?://)", url)


def _tasks() -> set[str]:
    return {repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def _connections(ports: set[int]) -> set[str]:
    """Our connections to any of the ports, each by its own port and the server's."""
    own = _own_sockets()
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {
        f"connection from port {_port(local)} to port {_port(remote)}"
        for _, local, remote, state, _, _, _, _, _, inode, *_ in lines
        if state == ESTABLISHED and inode in own and _port(remote) in ports
    }


def _own_sockets() -> set[str]:
    found: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            name = str(descriptor.readlink())
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:["):
            found.add(name[len("socket:[") : -1])
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)

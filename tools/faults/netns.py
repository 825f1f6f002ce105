"""A network namespace of our own, so that the network between us and a node in it can part.

    with Namespace() as space, RabbitMQNode(folder, host=space.address, prefix=space.prefix):
        with space.parted():
            ...

Needs root and `ip` (Debian: iproute2); `available()` says whether it works here.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from tools.services.entered import Entered
from tools.services.errors import CommandFailed, ServiceError
from tools.services.packages import programs

NETWORK = "10.213"  # of no concern to others: each pair of addresses lives on a wire of its own


class Namespace(Entered):
    """A namespace behind a wire (a veth pair) to this machine; `address` is the end within.

    While parted, packets vanish in both directions, silently, as on a broken network.
    """

    def __init__(self) -> None:
        number = 4 * secrets.randbelow(16_384)
        self.name = f"dd{number}"
        network = f"{NETWORK}.{number // 256}"
        self.host_address = f"{network}.{number % 256 + 1}"
        self.address = f"{network}.{number % 256 + 2}"
        self._host_end, self._inner_end = f"{self.name}a", f"{self.name}b"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command, it runs that within."""
        return "ip", "netns", "exec", self.name

    def start(self) -> None:
        """Make it, connected. Raises `CommandFailed`."""
        _ip("netns", "add", self.name)
        _ip(
            *("link", "add", self._host_end, "type", "veth"),
            *("peer", "name", self._inner_end, "netns", self.name),
        )
        _ip("address", "add", f"{self.host_address}/30", "dev", self._host_end)
        _ip("link", "set", self._host_end, "up")
        self._within("address", "add", f"{self.address}/30", "dev", self._inner_end)
        self._within("link", "set", "lo", "up")
        self._within("link", "set", self._inner_end, "up")
        # Known for good, or a parted peer would be reported as unreachable: silence is the fault.
        _ip(
            *("neighbour", "replace", self.address, "dev", self._host_end, "nud", "permanent"),
            *("lladdr", self._hardware_address()),
        )

    @contextmanager
    def parted(self) -> Iterator[None]:
        """Cuts the wire for the block."""
        self._within("link", "set", self._inner_end, "down")
        try:
            yield
        finally:
            self._within("link", "set", self._inner_end, "up")

    def close(self) -> None:
        """Remove it, and the wire with it."""
        _ip("netns", "delete", self.name)

    def end(self) -> None:
        self.close()

    def _within(self, *arguments: str) -> str:
        return _ip("-netns", self.name, *arguments)

    def _hardware_address(self) -> str:
        words = self._within("-brief", "link", "show", self._inner_end).split()
        return words[2]


@cache
def available() -> bool:
    """Whether a namespace can be made and connected here; installs `ip` where only that lacks."""
    try:
        if os.geteuid() == 0:
            programs("ip", packages=["iproute2"])
        with Namespace():
            return True
    except ServiceError:
        return False


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CommandFailed(f"`ip` cannot be run ({error}): apt-get install iproute2") from error
    if done.returncode != 0:
        raise CommandFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout

"""A private Redis node, of Debian's package or of a Redis on the PATH."""

import os
import socket
import time
from pathlib import Path
from typing import ClassVar

from tools.services.node import Node
from tools.services.packages import programs
from tools.services.ports import LOOPBACK
from tools.services.process import ServerProcess
from tools.services.sql_node import version_of

SERVER = "redis-server"
UNITS = ("redis-server.service",)
# It acknowledges nothing that a crash could take back, and keeps no second copy of its data.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


class RedisNode(Node):
    """One Redis of our own, which keeps what it has acknowledged."""

    label: ClassVar[str] = "Redis"
    variable: ClassVar[str] = "BUS_TEST_REDIS_URL"

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def version(self) -> str:
        return version_of(self._program)

    # --- what a node must say of itself ------------------------------------------------------

    def _prepare(self) -> None:
        """Nothing: it is told all by its command."""

    def _launch(self) -> ServerProcess:
        return ServerProcess.start(
            [
                *(str(self._program), "--bind", LOOPBACK, "--port", str(self.port)),
                *("--dir", str(self.folder), *DURABLE),
            ],
            environment=dict(os.environ),
            log=self._log,
            detached=self.detached,
        )

    def _await_ready(self, deadline: float) -> None:
        while not pong(self.port):
            self._still_starting(deadline)
            time.sleep(0.02)

    def _log_files(self) -> list[Path]:
        return [self._log]

    # --- within ----------------------------------------------------------------------------

    @property
    def _program(self) -> Path:
        (found,) = programs(
            SERVER, packages=[SERVER], units=UNITS, otherwise=f"set {self.variable}"
        )
        return Path(found)

    @property
    def _log(self) -> Path:
        return self.folder / "redis.out"


def pong(port: int) -> bool:
    """Whether a Redis there has read its data: until then it answers, but not with this."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7, socket.MSG_WAITALL) == b"+PONG\r\n"
    except OSError:
        return False

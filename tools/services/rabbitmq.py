"""A private RabbitMQ node: own folder, own ports, own epmd; nothing of the system's is read."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tools.services.errors import CommandFailed, ServiceUnavailable
from tools.services.node import Node
from tools.services.ports import LOOPBACK, answers, free_ports
from tools.services.process import ServerProcess
from tools.services.rabbitmq_programs import EPMD, epmd, link_lean_copy, scripts, version

CONFIGURATION = """\
loopback_users = none
disk_free_limit.absolute = 50MB
"""

# Until version 4, a node counts three files for each quorum queue, open or not, and takes no more
# connections once it comes to the limit of the machine: a suite leaves thousands of queues.
ADVANCED = "[{rabbit, [{file_handles_high_watermark, 1000000}]}].\n"

FORMATION = """\
cluster_formation.peer_discovery_backend = classic_config
"""

# One line of Erlang: what listens beside AMQP (the distribution) stays on this machine too.
LOCAL_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"

CONTROL_SECONDS = 180

MANAGEMENT = "rabbitmq_management"


class RabbitMQNode(Node):
    """One RabbitMQ broker of our own; user and password are `guest`.

    Nodes that are given one list, each put into it, make up a cluster when they start together.
    `host` is where clients connect, and `prefix` runs a command where that address is. Without
    `plugins` it starts in about half the time.
    """

    label: ClassVar[str] = "RabbitMQ"
    variable: ClassVar[str] = "BUS_AMQP_URL"
    port_names: ClassVar[tuple[str, ...]] = ("port", "distribution", EPMD)

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        configuration: Sequence[str] = (),
        detached: bool = False,
        members: "Sequence[RabbitMQNode]" = (),
        host: str = LOOPBACK,
        prefix: Sequence[str] = (),
        plugins: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, port=port, detached=detached)
        self.configuration = configuration
        self.members = members
        self.host = host
        self.plugins = plugins
        self._prefix = prefix

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}/"

    @property
    def management_url(self) -> str:
        """Where the management API is, with the plugin `rabbitmq_management`."""
        return f"http://guest:guest@{self.host}:{self._management_port}/"

    @property
    def name(self) -> str:
        """What the node is called among nodes."""
        return f"dd_{self.port}@localhost"

    @property
    def version(self) -> str:
        return version(self._scripts)

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against this node and return what it prints.

        Raises `CommandFailed` where it fails or takes a minute.
        """
        program = str(self._scripts / "rabbitmqctl")
        command = [*self._prefix, program, "--quiet", *arguments]
        try:
            done = subprocess.run(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=CONTROL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(
                f"rabbitmqctl {' '.join(arguments)} took over {CONTROL_SECONDS} s on "
                f"{self.name}: is the node paused?"
            ) from error
        if done.returncode != 0:
            raise CommandFailed(
                f"rabbitmqctl {' '.join(arguments)} failed on {self.name}: "
                f"{(done.stderr or done.stdout).strip()}"
            )
        return done.stdout

    # --- what a node must say of itself ------------------------------------------------------

    def found(self) -> None:
        """Make what nodes know and find each other by, a cookie and an epmd, where it is missing.

        A cluster has them from its first member.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        self._write_cookie(self._cookie)
        if not self._is_alive(EPMD):
            self._processes[EPMD] = self._launch_epmd()

    def _ports_to_take(self) -> list[int]:
        own_epmd = self._first is self and not self._is_alive(EPMD)
        names = self.port_names if own_epmd else [n for n in self.port_names if n != EPMD]
        return [self.ports[name] for name in names]

    def _prepare(self) -> None:
        for folder in (self._home, self._log_folder):
            folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{line}\n" for line in self.configuration)
        lines += self._management()
        (self.folder / "rabbitmq.conf").write_text(CONFIGURATION + self._formation() + lines)
        (self.folder / "advanced.config").write_text(ADVANCED)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
        (self.folder / "rabbitmq-env.conf").write_text("")
        self._write_cookie(self._first._cookie)
        link_lean_copy(self._scripts, self._home, plugins=self.plugins)

    def _launch(self) -> ServerProcess:
        self._first.found()
        return self._run([str(self._scripts / "rabbitmq-server")], "server.out")

    def _launch_epmd(self) -> ServerProcess:
        port = self.ports[EPMD]
        process = self._run([epmd(), "-port", str(port), "-address", self.host], "epmd.out")
        # The server starts an epmd of its own, which nobody stops, where it finds none.
        while not answers(self.host, port):
            if not process.alive:
                raise ServiceUnavailable(
                    f"epmd ended at once on port {port}: see {self.folder / 'epmd.out'}"
                )
            time.sleep(0.01)
        return process

    def _await_ready(self, deadline: float) -> None:
        while not speaks_amqp(self.port, host=self.host) or not self._is_managed:
            self._still_starting(deadline)
            time.sleep(0.05)

    @property
    def _is_managed(self) -> bool:
        """Whether the management API answers, where it is asked for."""
        return MANAGEMENT not in self.plugins or answers(self.host, self._management_port)

    def _log_files(self) -> list[Path]:
        return [self.folder / "server.out"]

    # --- within ----------------------------------------------------------------------------

    @cached_property
    def _scripts(self) -> Path:
        return scripts()

    @property
    def _first(self) -> "RabbitMQNode":
        return self.members[0] if self.members else self

    @cached_property
    def _management_port(self) -> int:
        return free_ports(1)[0]

    def _management(self) -> str:
        if MANAGEMENT not in self.plugins:
            return ""
        place = {"ip": self.host, "port": self._management_port}
        return "".join(f"management.tcp.{name} = {value}\n" for name, value in place.items())

    def _formation(self) -> str:
        nodes = "".join(
            f"cluster_formation.classic_config.nodes.{number} = {member.name}\n"
            for number, member in enumerate(self.members, 1)
        )
        return FORMATION + nodes if nodes else ""

    @property
    def _home(self) -> Path:
        return self.folder / "home"

    @property
    def _log_folder(self) -> Path:
        return self.folder / "log"

    @cached_property
    def _cookie(self) -> str:
        file = self._cookie_file
        return file.read_text() if file.exists() else secrets.token_hex(20)

    @property
    def _cookie_file(self) -> Path:
        return self._home / ".erlang.cookie"

    def _write_cookie(self, cookie: str) -> None:
        file = self._cookie_file
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(cookie)
            file.chmod(0o400)

    def _run(self, command: Sequence[str], log: str) -> ServerProcess:
        return ServerProcess.start(
            [*self._prefix, *command],
            environment=self._environment(),
            log=self.folder / log,
            detached=self.detached,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "ERL_CRASH_DUMP": str(self._log_folder / "erl_crash.dump"),
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_EPMD_PORT": str(self._first.ports[EPMD]),
            # The script then becomes the server, instead of staying beside it as its parent.
            "RUNNING_UNDER_SYSTEMD": "true",
            **{f"RABBITMQ_{name}": value for name, value in self._settings().items()},
        }

    def _settings(self) -> dict[str, str]:
        folder = self.folder
        return {
            "CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "GENERATED_CONFIG_DIR": str(folder / "generated"),
            "ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "MNESIA_BASE": str(folder / "data"),
            "LOG_BASE": str(self._log_folder),
            "PID_FILE": str(folder / "server.pid"),
            "NODENAME": self.name,
            "NODE_IP_ADDRESS": self.host,
            "NODE_PORT": str(self.port),
            "DIST_PORT": str(self.ports["distribution"]),
            "SERVER_ADDITIONAL_ERL_ARGS": LOCAL_DISTRIBUTION,
            "CTL_ERL_ARGS": LOCAL_DISTRIBUTION,
            "CTL_DIST_PORT_MAX": "36672",
            **self._lean_copy(),
        }

    def _lean_copy(self) -> dict[str, str]:
        # RabbitMQ's scripts do not quote this folder: with a space in it, the slow start must do.
        if any(character.isspace() for character in str(self.folder)):
            return {}
        return {
            "SCRIPTS_DIR": str(self._home / "sbin"),
            "PLUGINS_DIR": str(self._home / "plugins"),
        }


def speaks_amqp(port: int, seconds: float = 2.0, *, host: str = LOOPBACK) -> bool:
    """Whether an AMQP header is answered by a frame: an open port alone proves nothing."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            connection.sendall(PROTOCOL_HEADER)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False

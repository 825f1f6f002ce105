"""A private RabbitMQ node: an own folder, own ports, an own epmd; nothing of the system's is read.

DOUBLEDECKER_RABBITMQ may name the folder with `rabbitmq-server` in it.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tools.services.cache import cache_folder, locked
from tools.services.errors import CommandFailed, ServiceUnavailable
from tools.services.node import Node
from tools.services.packages import install
from tools.services.ports import LOOPBACK, answers
from tools.services.process import ServerProcess

FOLDER_VARIABLE = "DOUBLEDECKER_RABBITMQ"

# The scripts of the same names on the PATH change to the system's user first; these do not.
DEBIAN_FOLDER = Path("/usr/lib/rabbitmq/bin")

CONFIGURATION = """\
loopback_users = none
disk_free_limit.absolute = 50MB
"""

# One line of Erlang: what listens beside AMQP (the distribution) stays on this machine too.
LOCAL_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"

EPMD = "epmd"
CONTROL_SECONDS = 60


class RabbitMQNode(Node):
    """One RabbitMQ broker of our own, with no plugins; user and password are `guest`."""

    label: ClassVar[str] = "RabbitMQ"
    port_names: ClassVar[tuple[str, ...]] = ("port", "distribution", EPMD)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def version(self) -> str:
        return _version(self._scripts)

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against this node and return what it prints.

        Raises `CommandFailed` where it fails or takes a minute.
        """
        command = [str(self._scripts / "rabbitmqctl"), "--quiet", *arguments]
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
                f"{self._node_name}: is the node paused?"
            ) from error
        if done.returncode != 0:
            raise CommandFailed(
                f"rabbitmqctl {' '.join(arguments)} failed on {self._node_name}: "
                f"{(done.stderr or done.stdout).strip()}"
            )
        return done.stdout

    # --- what a node must say of itself ------------------------------------------------------

    def _ports_to_take(self) -> list[int]:
        ours = {self.ports[EPMD]} if self._is_alive(EPMD) else set()
        return [port for port in self.ports.values() if port not in ours]

    def _prepare(self) -> None:
        for folder in (self._home, self._log_folder):
            folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(CONFIGURATION)
        (self.folder / "advanced.config").write_text("[].\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq-env.conf").write_text("")
        self._write_cookie()
        _link_lean_copy(self._scripts, self._home)

    def _launch(self) -> ServerProcess:
        if not self._is_alive(EPMD):
            self._processes[EPMD] = self._launch_epmd()
        return self._run([str(self._scripts / "rabbitmq-server")], "server.out")

    def _launch_epmd(self) -> ServerProcess:
        port = self.ports[EPMD]
        process = self._run([_epmd(), "-port", str(port), "-address", LOOPBACK], "epmd.out")
        # The server starts an epmd of its own, which nobody stops, where it finds none.
        while not answers(LOOPBACK, port):
            if not process.alive:
                raise ServiceUnavailable(
                    f"epmd ended at once on port {port}: see {self.folder / 'epmd.out'}"
                )
            time.sleep(0.01)
        return process

    def _await_ready(self, deadline: float) -> None:
        while not speaks_amqp(self.port):
            self._still_starting(deadline)
            time.sleep(0.05)

    def _log_files(self) -> list[Path]:
        return [self.folder / "server.out"]

    # --- within ----------------------------------------------------------------------------

    @cached_property
    def _scripts(self) -> Path:
        return scripts()

    @property
    def _node_name(self) -> str:
        return f"dd_{self.port}@localhost"

    @property
    def _home(self) -> Path:
        return self.folder / "home"

    @property
    def _log_folder(self) -> Path:
        return self.folder / "log"

    def _write_cookie(self) -> None:
        cookie = self._home / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)

    def _run(self, command: Sequence[str], log: str) -> ServerProcess:
        return ServerProcess.start(
            command,
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
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self.ports[EPMD]),
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
            "NODENAME": self._node_name,
            "NODE_IP_ADDRESS": LOOPBACK,
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


def scripts() -> Path:
    """The folder with `rabbitmq-server` and `rabbitmqctl`; installs Debian's where there is none.

    Raises `ServiceUnavailable` where it cannot be had.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return _checked(Path(named))
    if not _has_server(DEBIAN_FOLDER):
        with locked(cache_folder() / "install.lock"):
            _install()
    return DEBIAN_FOLDER


def speaks_amqp(port: int, seconds: float = 2.0) -> bool:
    """Whether an AMQP header is answered by a frame: an open port alone proves nothing."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=seconds) as connection:
            connection.sendall(PROTOCOL_HEADER)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False


def _has_server(folder: Path) -> bool:
    return (folder / "rabbitmq-server").exists()


def _checked(folder: Path) -> Path:
    if not _has_server(folder):
        raise ServiceUnavailable(
            f"{FOLDER_VARIABLE} names {folder}, where no rabbitmq-server is: correct or unset it"
        )
    return folder


def _install() -> None:
    units = ["rabbitmq-server.service"]
    if shutil.which(EPMD) is None:
        units += ["epmd.service", "epmd.socket"]
    install(["rabbitmq-server"], units=units)
    if not _has_server(DEBIAN_FOLDER):
        raise ServiceUnavailable(
            f"rabbitmq-server is installed, but not in {DEBIAN_FOLDER}: set {FOLDER_VARIABLE} to "
            "the folder that has it"
        )


def _version(folder: Path) -> str:
    place = str((folder / "rabbitmq-server").resolve())
    found = re.search(r"rabbitmq_server-([^/]+)", place)
    return found[1] if found else "of unknown version"


def _epmd() -> str:
    found = shutil.which(EPMD)
    if found is None:
        raise ServiceUnavailable(
            "epmd is not on the PATH, and RabbitMQ cannot start without it: "
            "run `apt-get install erlang-base`"
        )
    return found


def _link_lean_copy(scripts_folder: Path, home: Path) -> None:
    """Link the installation without its optional plugins: the node starts in about half the time.

    Erlang looks for each of its modules in every plugin's folder, enabled or not.
    """
    installation = (scripts_folder / "rabbitmq-server").resolve().parent.parent
    plugins = home / "plugins"
    shutil.rmtree(plugins, ignore_errors=True)
    plugins.mkdir()
    for part in ("sbin", "escript"):
        _link(home / part, installation / part)
    for entry in (installation / "plugins").iterdir():
        if _is_needed(entry.name):
            _link(plugins / entry.name, entry)


def _is_needed(plugin: str) -> bool:
    return not plugin.startswith("rabbitmq_") or plugin.startswith("rabbitmq_prelaunch")


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)

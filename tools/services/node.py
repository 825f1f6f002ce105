"""A private server in a folder of its own: what all nodes have in common."""

import json
import shutil
import signal
import sys
import threading
import time
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from tools.services.entered import Entered
from tools.services.errors import ServiceUnavailable
from tools.services.ports import LOOPBACK, free_ports, is_free
from tools.services.process import ServerProcess
from tools.services.progress import say

START_SECONDS = 120.0  # a tenth of it is usual; a machine busy with tests takes its time
STOP_SECONDS = 30.0

SERVER = "server"  # the process that the node is about; others beside it only help


class Node(Entered):
    """One private server process; ports and data stay the same over restarts in its folder.

    Bound to 127.0.0.1. Unless `detached`, it dies with the process that started it.
    """

    label: ClassVar[str]
    variable: ClassVar[str]
    """The environment's name for the URL of a server that is to be used in place of one of ours."""
    port_names: ClassVar[tuple[str, ...]] = ("port",)

    def __init__(self, folder: Path, *, port: int | None = None, detached: bool = False) -> None:
        self.folder = folder.resolve()
        self.detached = detached
        self._wanted_port = port
        self._processes: dict[str, ServerProcess] = {}
        self._closed = False
        self._guard = threading.Lock()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @property
    @abstractmethod
    def version(self) -> str:
        """The server's version; installs the server first where it is missing."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server reads when it starts."""

    @abstractmethod
    def _launch(self) -> ServerProcess:
        """Start the server's process."""

    @abstractmethod
    def _await_ready(self, deadline: float) -> None:
        """Return when clients can work; raise TimeoutError at the deadline."""

    @abstractmethod
    def _log_files(self) -> list[Path]:
        """Where the server tells why it failed, most telling last."""

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and return when clients can work.

        Raises `ServiceUnavailable` where the server cannot be had, its port is taken, or it fails.
        """
        if self.detached:
            self.adopt()
        if self.running:
            return
        self._require_linux()
        say(f"Starting {self.label} {self.version} ...")
        began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._require_free_ports()
        self._prepare()
        self._start_process()
        self._finish_start(began + START_SECONDS)
        say(f"{self.label} {self.version} ready in {time.monotonic() - began:.1f} s")

    def stop(self) -> None:
        """End cleanly, data kept; `start` brings it back."""
        if self.running:
            self._processes[SERVER].stop(STOP_SECONDS)

    def kill(self) -> None:
        """Crash (SIGKILL); `start` brings it back."""
        if self.running:
            self._processes[SERVER].kill()

    def pause(self) -> None:
        """Freeze: connections stay open and nothing answers."""
        self._running_process().freeze()

    def resume(self) -> None:
        self._running_process().signal(signal.SIGCONT)

    def close(self, *, remove: bool = False) -> None:
        """End for good, with all that belongs to it; `remove` deletes the folder too."""
        with self._guard:
            self._closed = True
        # Nobody reads the data again, so nothing is gained by a clean end.
        if remove:
            self.kill()
        else:
            self.stop()
        for process in self._processes.values():
            process.kill()
        self._process_file.unlink(missing_ok=True)
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)

    def adopt(self) -> bool:
        """Take over the server that another process started in this folder, if it still runs."""
        recorded = _read(self._process_file)
        found = {name: ServerProcess.adopt(**record) for name, record in recorded.items()}
        self._processes = {name: process for name, process in found.items() if process is not None}
        return self.running

    def end(self) -> None:
        self.close()

    # --- facts -----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._is_alive(SERVER)

    @property
    def pid(self) -> int:
        """The server's process number; raises `ServiceUnavailable` while it does not run."""
        return self._running_process().pid

    @property
    def port(self) -> int:
        """Where clients connect: fixed by the first look at it, for this folder's whole life."""
        return self.ports["port"]

    @cached_property
    def ports(self) -> dict[str, int]:
        recorded = _read(self._ports_file)
        if not recorded:
            return self._choose_ports()
        if self._wanted_port not in (None, recorded["port"]):
            raise ServiceUnavailable(
                f"{self.label} in {self.folder} has port {recorded['port']} and cannot change to "
                f"{self._wanted_port}: give another folder, or no port"
            )
        return {name: int(recorded[name]) for name in self.port_names}

    # --- within ----------------------------------------------------------------------------

    @property
    def _ports_file(self) -> Path:
        return self.folder / "ports.json"

    @property
    def _process_file(self) -> Path:
        return self.folder / "process.json"

    def _choose_ports(self) -> dict[str, int]:
        chosen = dict(zip(self.port_names, free_ports(len(self.port_names)), strict=True))
        if self._wanted_port is not None:
            chosen["port"] = self._wanted_port
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ports_file.write_text(json.dumps(chosen))
        return chosen

    def _ports_to_take(self) -> list[int]:
        return list(self.ports.values())

    def _require_linux(self) -> None:
        if sys.platform != "linux":
            raise ServiceUnavailable(
                f"A private {self.label} needs Linux, and this is {sys.platform}: start Docker, "
                f"or set {self.variable} to a server of yours"
            )

    def _require_free_ports(self) -> None:
        # Otherwise an old server answers for the new one, and tests run against that.
        taken = [port for port in self._ports_to_take() if not is_free(port)]
        if taken:
            raise ServiceUnavailable(
                f"{self.label} in {self.folder} cannot start: port {taken[0]} of {LOOPBACK} is "
                "taken by another process: end that one, or give another port and folder"
            )

    def _start_process(self) -> None:
        with self._guard:
            if self._closed:
                raise ServiceUnavailable(
                    f"{self.label} in {self.folder} is closed for good: make another node"
                )
            self._processes[SERVER] = self._launch()
            self._process_file.write_text(json.dumps(self._record()))

    def _record(self) -> dict[str, dict[str, int | str]]:
        return {
            name: {"pid": process.pid, "started": process.started}
            for name, process in self._processes.items()
        }

    def _is_alive(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.alive

    def _finish_start(self, deadline: float) -> None:
        try:
            self._await_ready(deadline)
        except TimeoutError as error:
            self.kill()
            raise ServiceUnavailable(self._failure(str(error))) from error

    def _still_starting(self, deadline: float) -> None:
        """Raise TimeoutError where waiting on is useless."""
        if not self.running:
            raise TimeoutError("it ended while starting")
        if time.monotonic() > deadline:
            raise TimeoutError(f"it was not ready after {START_SECONDS:.0f} s")

    def _failure(self, reason: str) -> str:
        return "\n".join(
            [
                f"{self.label} {self.version} in {self.folder} did not start: {reason}. "
                "Its last words (remedy: mend what they name, or delete the folder):",
                *_last_lines(self._log_files()),
            ]
        )

    def _running_process(self) -> ServerProcess:
        if not self.running:
            raise ServiceUnavailable(
                f"{self.label} in {self.folder} does not run: call start() first"
            )
        return self._processes[SERVER]


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content


def _last_lines(files: list[Path], count: int = 12) -> list[str]:
    lines = [line for file in files if file.exists() for line in _lines(file)]
    return [f"  {line}" for line in lines[-count:]]


def _lines(file: Path) -> list[str]:
    lines = file.read_text(errors="replace").splitlines()
    # Java tells what is wrong above where, which takes more lines than anybody is shown.
    return [line for line in lines if line.strip() and not line.startswith("\tat ")]

"""The demo's processes: an API, workers and a relay, which end with the demo whatever happens, or
stay where it is told so."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tools.services.ports import LOOPBACK, free_ports
from tools.services.process import ServerProcess

ROOT = Path(__file__).parents[2]
TARGET = "handlers.app:build"
WORKER, STATISTICS = "worker-1", "statistics"
"""The processes that are killed: the first worker, and the third service's."""
STOP_WITHIN = 10.0


class Counted(NamedTuple):
    """What the workers' logs tell of deliveries that came twice, or not at all."""

    duplicates: int
    healed: int


class StartedProcess(NamedTuple):
    """A process, where it answers over HTTP if it does, and its log."""

    process: ServerProcess
    url: str
    log: Path


Note = Callable[[Mapping[str, StartedProcess]], object]
"""Is told of all processes whenever one was started."""


class Processes:
    """The processes of one demo; each writes a log of its own into `folder`.

    With `note` they stay when the block ends without an error, and each has a port for its health.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, note: Note | None = None
    ) -> None:
        self.folder = folder
        self._note = note
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._running: dict[str, ServerProcess] = {}
        self._urls: dict[str, str] = {}
        self._starts: dict[str, Callable[[], ServerProcess]] = {}
        self.url = ""
        self.kills = Counter[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._note and error is None:
            return
        with ThreadPoolExecutor(max_workers=max(1, len(self._running))) as threads:
            list(threads.map(lambda one: one.stop(STOP_WITHIN), self._running.values()))

    def start_api(self, *options: str) -> None:
        (port,) = free_ports(1)
        self.url = self._urls["api"] = f"http://{LOOPBACK}:{port}"
        self._start("api", "handlers.http", "--host", LOOPBACK, "--port", str(port), *options)

    def start_workers(self, count: int) -> None:
        for number in range(1, count + 1):
            self._start_with_health(f"worker-{number}", "bus", "worker", TARGET)

    def start_relay(self) -> None:
        self._start_with_health("relay", "bus", "relay", TARGET)

    def start_statistics(self, target: str, environment: Mapping[str, str]) -> None:
        """Starts the worker of the third service, with an environment of its own."""
        self._start_with_health(STATISTICS, "bus", "worker", target, **environment)

    def kill(self, name: str) -> None:
        """Kills a process, as a crash would, and starts it again."""
        process = self._running.pop(name)
        process.signal(signal.SIGKILL)
        process.wait(STOP_WITHIN)
        self.kills[name] += 1
        self._running[name] = self._starts[name]()
        self._tell()

    def runs(self, name: str) -> bool:
        return name in self._running

    @property
    def ended(self) -> list[str]:
        """Processes that ended by themselves."""
        return [name for name, process in [*self._running.items()] if not process.alive]

    def counted(self) -> Counted:
        """Sums up what the projectors logged."""
        lines = [line for line in self._log_lines() if line.get("event") == "healed"]
        return Counted(sum(x["duplicates"] for x in lines), sum(x["healed"] for x in lines))

    def _start_with_health(self, name: str, *module: str, **environment: str) -> None:
        """Starts a process; one that stays answers at a port of its own."""
        if self._note:
            (port,) = free_ports(1)
            self._urls[name] = f"http://{LOOPBACK}:{port}"
            environment["BUS_HEALTH_PORT"] = str(port)
        self._start(name, *module, **environment)

    def _start(self, name: str, *module: str, **environment: str) -> None:
        self._starts[name] = lambda: ServerProcess.start(
            [sys.executable, "-m", *module],
            environment={**self._environment, **environment},
            log=self._log(name),
            detached=self._note is not None,
        )
        self._running[name] = self._starts[name]()
        self._tell()

    def _tell(self) -> None:
        if self._note:
            self._note({name: self._told(name, one) for name, one in self._running.items()})

    def _told(self, name: str, process: ServerProcess) -> StartedProcess:
        return StartedProcess(process, self._urls.get(name, ""), self._log(name))

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _log_lines(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.folder.glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("{"):
                    yield json.loads(line)

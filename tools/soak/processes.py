"""The soak's processes: a load, workers and a relay; killed, stopped and started again by name."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tools.services.ports import wait_until
from tools.services.process import ServerProcess
from tools.soak.service import RELEASE
from tools.soak.sinks.plan import FED, FED_TARGET, FED_WORKERS

ROOT = Path(__file__).parents[2]
TARGET = "tools.soak.service:build"
LOAD, RELAY = "load", "relay"
WORKERS = ("worker-1", "worker-2")
OF_FED = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_DB": FED, "BUS_LOG_URL": ""}
"""What the service that is fed from Kafka is told: it knows no other broker."""
STARTED = b"worker_started"
AWAY_AT_START = re.compile(rb"StoreUnavailable: |ConfigurationError: [\w ]+ does not allow ")
READY_WITHIN = 60.0
STOP_WITHIN = 30.0


class Processes:
    """Each writes a log of its own into `folder`, over all its lives."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], load_options: Sequence[str]
    ) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._running: dict[str, ServerProcess] = {}
        self._log_before: dict[str, int] = {}
        self._modules: dict[str, Sequence[str]] = {
            **dict.fromkeys(WORKERS, ("bus", "worker", TARGET)),
            **dict.fromkeys(FED_WORKERS, ("bus", "worker", FED_TARGET)),
            RELAY: ("bus", "relay", TARGET),
            LOAD: ("tools.soak.load", *load_options),
        }
        self.releases: dict[str, str] = {}
        """The release that a process runs, where it is not the first."""
        self.complaints: list[str] = []
        self.failed_starts = 0

    def start(self, name: str) -> None:
        log = self._log(name)
        self._log_before[name] = log.stat().st_size if log.exists() else 0
        self._running[name] = ServerProcess.start(
            [sys.executable, "-m", *self._modules[name]],
            environment={**self._environment_of(name), RELEASE: self.releases.get(name, "1")},
            log=log,
            detached=False,
        )

    def command(self, release: str, name: str, *options: str, of: str = "events") -> None:
        """`bus events`, or another group of commands, as an operator runs it."""
        done = subprocess.run(
            [sys.executable, "-m", "bus", of, name, TARGET, *options],
            env={**self._environment, RELEASE: release},
            capture_output=True,
            text=True,
        )
        with (self._folder / "commands.log").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {name} {options}\n")
            log.write(done.stdout + done.stderr)
        if done.returncode:
            self.complaints.append(f"{name} {' '.join(options)}: {done.stderr[-300:]}")

    def await_worker(self, name: str) -> None:
        """Returns when a worker consumes. Raises: TimeoutError."""
        if not wait_until(lambda: self._has_started(name), READY_WITHIN):
            raise TimeoutError(f"{name} does not start; its log is {self._log(name)}")

    def tend(self) -> list[str]:
        """Starts again what could not start since a database was away, or let nobody in, as a
        supervisor would.

        Returns those that ended by themselves in any other way.
        """
        ended = [name for name, process in self._running.items() if not process.alive]
        for name in ended:
            if could_not_start(self._said(name)):
                self.failed_starts += 1
                self.start(name)
        return [name for name in ended if not self._running[name].alive]

    def kill(self, name: str) -> None:
        """Ends it as a crash would."""
        self._running.pop(name).kill()

    def stop(self, name: str) -> None:
        """Ends it by SIGTERM; whatever but a clean end within its deadline is a complaint."""
        process = self._running.pop(name)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        if not process.wait(STOP_WITHIN):
            self.complaints.append(f"{name} did not end within {STOP_WITHIN:g} s of SIGTERM")
            process.kill()
            return
        code = process.child.returncode if process.child else 0
        if code != 0:
            seconds = time.monotonic() - began
            self.complaints.append(
                f"{name} ended with status {code}, {seconds:.1f} s after SIGTERM"
            )

    def freeze(self, name: str) -> None:
        """Stops it where it is; its connections stay open."""
        self._running[name].freeze()

    def thaw(self, name: str) -> None:
        """Has it go on as if nothing had been."""
        self._running[name].signal(signal.SIGCONT)

    def end_roll_out(self) -> None:
        """Brings all workers to the release of the newest: what waits for it has no odds left."""
        newest = max(self.releases.values(), default="1")
        for name in WORKERS:
            if self.releases.get(name, "1") != newest:
                self.stop(name)
                self.releases[name] = newest
                self.start(name)

    def stop_all(self) -> None:
        with ThreadPoolExecutor(max_workers=4) as threads:
            list(threads.map(self.stop, list(self._running)))

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def _environment_of(self, name: str) -> dict[str, str]:
        return {**self._environment, **(OF_FED if name in FED_WORKERS else {})}

    def _has_started(self, name: str) -> bool:
        self.tend()
        return STARTED in self._said(name)

    def _said(self, name: str) -> bytes:
        with self._log(name).open("rb") as log:
            log.seek(self._log_before[name])
            return log.read()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def could_not_start(said: bytes) -> bool:
    """Whether a process ended at once since a database was away, or let nobody in; by its log."""
    last = said.splitlines()[-1:]
    return STARTED not in said and any(map(AWAY_AT_START.search, last))

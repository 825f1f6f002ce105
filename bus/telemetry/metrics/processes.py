"""Processes: several of one machine that are scraped at one port, as web servers have workers.

Each writes what it counts into a file of its own in PROMETHEUS_MULTIPROC_DIR, and who is asked
answers for all. Of a process that has ended the counts stay, and what it said of a moment goes. The
folder is to be emptied before the processes start, as prometheus-client says.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from bus.common import clock
from bus.observe.health_server import SHARED
from bus.observe.log import Logger
from bus.telemetry.metrics.tally import Distribution, Labels, Reading, joined

EVERY = 1.0
"""Seconds between writing: so much is lost of a process that is killed."""

log = Logger("bus.telemetry")


def shared_folder() -> Path | None:
    """Returns where the processes of this machine share their counts, if they do."""
    folder = os.environ.get(SHARED)
    return Path(folder) if folder else None


class Shared:
    """The file of one bus in this process, and those of all others beside it."""

    def __init__(self, folder: Path, service: str, read: Callable[[], Reading]) -> None:
        self._folder = folder
        self._service = service
        self._read = read
        self._lock = -1
        self._stopping = Event()
        self._failed: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._own = f"bus_{self._pid}_{clock.new_id()}"
        self._writing = Lock()

    def start(self) -> None:
        """Has a thread write every second. The file counts as this process's until that ends."""
        self._be_this_process()
        self._stopping = Event()
        try:
            self._lock = os.open(self._folder / f"{self._own}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed however it ends
        except OSError as error:
            self._note(error)
        stopping = self._stopping
        Thread(target=self._run, args=[stopping], name="bus metrics", daemon=True).start()

    def stop(self) -> None:
        """Writes once more, and counts as ended."""
        self._stopping.set()
        self.write()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _be_this_process(self) -> None:
        """Takes a file of its own in the child of a fork, whose parent goes on with the other."""
        if os.getpid() != self._pid:
            self._unlock()
            self._begin()

    def write(self) -> None:
        """Writes what is counted by now. Logs the first failure."""
        self._be_this_process()
        try:
            with self._writing:  # so that no other thread puts what it read before over this
                whole = json.dumps({"service": self._service, **_listed(self._read())})
                new = self._folder / f"{self._own}.{clock.new_id()}.new"
                new.write_text(whole)
                new.replace(self._folder / f"{self._own}.json")
        except Exception as error:
            self._note(error)

    def all(self) -> list[tuple[str, Reading]]:
        """Returns what each service has counted, in all processes."""
        self.write()
        by_service = {self._service: [self._read()]}
        for path in sorted(self._folder.glob("bus_*.json")):
            for service, reading in self._file(path) if path.stem != self._own else ():
                is_live = _is_locked(path.with_suffix(".lock"))
                kept = reading if is_live else reading._replace(gauges={})
                by_service.setdefault(service, []).append(kept)
        return [(service, joined(found)) for service, found in by_service.items()]

    def _file(self, path: Path) -> Iterator[tuple[str, Reading]]:
        """Yields what another one has written; nothing of a file that cannot be read."""
        try:
            whole = json.loads(path.read_text())
            found = (str(whole["service"]), _reading(whole))
        except FileNotFoundError:  # somebody is emptying the folder
            return
        except Exception as error:
            self._note(error, path.name)
        else:
            yield found

    def _note(self, error: Exception, file: str = "") -> None:
        if file not in self._failed:
            self._failed.add(file)
            log.error("metrics_not_shared", folder=str(self._folder), file=file, exc_info=error)

    def _run(self, stopping: Event) -> None:
        while not stopping.wait(EVERY):
            self.write()


def _is_locked(path: Path) -> bool:
    """Returns whether the process that has locked it still runs."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _listed(reading: Reading) -> dict[str, Any]:
    """Returns a reading as JSON types."""
    return {
        "counters": {name: list(of.items()) for name, of in reading.counters.items()},
        "gauges": {name: list(of.items()) for name, of in reading.gauges.items()},
        "histograms": {
            name: [(labels, found.counts, found.total) for labels, found in of.items()]
            for name, of in reading.histograms.items()
        },
    }


def _reading(listed: dict[str, Any]) -> Reading:
    histograms = {
        name: {tuple(labels): Distribution(tuple(counts), total) for labels, counts, total in of}
        for name, of in listed["histograms"].items()
    }
    return Reading(_numbers(listed["counters"]), _numbers(listed["gauges"]), histograms)


def _numbers(listed: dict[str, Any]) -> dict[str, dict[Labels, float]]:
    return {name: {tuple(labels): value for labels, value in of} for name, of in listed.items()}

"""The demo that stays: what `--keep` has left running, as `demo.json` beside the kept servers says.

What is noted is true from the start of a process on: a demo that is killed can be stopped, too.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tools.demo.cleaning import Names
from tools.demo.processes import Note, StartedProcess
from tools.services import Found, kept
from tools.services.cache import locked
from tools.services.finding import MONGODB, RABBITMQ, Place
from tools.services.kept import KeptService
from tools.services.process import ServerProcess
from tools.services.progress import say


@dataclass(frozen=True)
class KeptProcess:
    """A process, told from a later one of that number by when it started."""

    pid: int
    started: str
    url: str
    log: str

    @property
    def process(self) -> ServerProcess | None:
        """The process itself; None once it has ended."""
        return ServerProcess.adopt(self.pid, self.started)


@dataclass(frozen=True)
class KeptDemo:
    """A demo: under which names, on which servers, and its processes by name."""

    service: str
    database: str
    log: str
    stores: tuple[str, ...]
    logs: str
    servers: Mapping[str, KeptService]
    processes: Mapping[str, KeptProcess] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "KeptDemo | None":
        """Returns what is kept in a folder; None if nothing is."""
        try:
            state: dict[str, Any] = json.loads(_file(folder).read_text())
        except FileNotFoundError:
            return None
        servers = {name: KeptService(**one) for name, one in state.pop("servers").items()}
        processes = {name: KeptProcess(**one) for name, one in state.pop("processes").items()}
        stores = tuple(state.pop("stores"))
        return cls(**state, stores=stores, servers=servers, processes=processes)

    def write(self, folder: Path) -> None:
        kept.replace(_file(folder), asdict(self))

    def with_processes(self, started: Mapping[str, StartedProcess]) -> Self:
        """Returns it with these processes."""
        found = {
            name: KeptProcess(one.process.pid, one.process.started, one.url, str(one.log))
            for name, one in started.items()
        }
        return replace(self, processes=found)

    @property
    def running(self) -> dict[str, ServerProcess]:
        """The processes that have not ended."""
        found = {name: one.process for name, one in self.processes.items()}
        return {name: process for name, process in found.items() if process}

    @property
    def ended(self) -> list[str]:
        """The processes that ended by themselves, or were killed."""
        return [name for name in self.processes if name not in self.running]


def noted(
    folder: Path, found: Found, names: Names, environment: Mapping[str, str], logs: Path
) -> Note:
    """Returns what notes the processes of a demo in a folder."""
    places = {
        RABBITMQ: Place(found.amqp_url, found.amqp_origin),
        MONGODB: Place(found.mongo_url, found.mongo_origin),
        **found.sql,
        **found.java,
    }
    demo = KeptDemo(
        service=names.service,
        database=names.database,
        log=names.log,
        stores=tuple(names.stores),
        logs=str(logs),
        servers={name: KeptService(one.url, one.origin) for name, one in places.items()},
    )
    _write_environment(demo, environment)
    return lambda started: demo.with_processes(started).write(folder)


def environment_file(demo: KeptDemo) -> Path:
    """Where a shell reads the variables of the demo's processes, for commands of one's own."""
    return Path(demo.logs) / "environment"


def _write_environment(demo: KeptDemo, environment: Mapping[str, str]) -> None:
    file = environment_file(demo)
    file.touch(mode=0o600)  # URLs may hold passwords
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    file.write_text("".join(lines))


def forget(folder: Path) -> None:
    """Removes the note."""
    _file(folder).unlink(missing_ok=True)


def forget_ended(folder: Path) -> None:
    """Removes the note of a demo that came to nothing, unless a process of it runs on, as it does
    after an interruption at the very end: it is to be found then."""
    former = KeptDemo.read(folder)
    if former and not former.running:
        forget(folder)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Holds off every other `--keep` and `--stop` of this folder."""
    with locked(folder / "demo.lock", waiting=_say_waiting):
        yield


def _say_waiting() -> None:
    say("Waiting for another bin/demo --keep or --stop ...")


def _file(folder: Path) -> Path:
    return folder / "demo.json"

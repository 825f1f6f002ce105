"""Server processes: start, signal, await, and find again one that another program started."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from signal import Signals

from tools.services.ports import wait_until

FREEZE_SECONDS = 5.0  # a thread in the middle of a slow write to disk stops after it


@dataclass(frozen=True)
class ServerProcess:
    """A running server: our child, or (after `adopt`) somebody else's."""

    pid: int
    started: str
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        detached: bool,
        prefix: Sequence[str] = (),
    ) -> "ServerProcess":
        """Start a server; unless detached, the kernel kills it when this process dies.

        `prefix` becomes the command, as another user say: after that the kernel would forget.
        """
        bound = [] if detached else [*bound_to(os.getpid())]
        words = [*prefix, *bound, *command]
        child = _spawner(os.getpid()).submit(_spawn, words, environment, log).result()
        return cls(child.pid, start_time(child.pid), child)

    @classmethod
    def adopt(cls, pid: int, started: str) -> "ServerProcess | None":
        """The process of that number, if it is still the one that started then."""
        process = cls(pid, started)
        return process if process.alive else None

    @property
    def alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return self.started != "" and start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop it where it is; at the end no thread of it runs any more.

        The kernel stops the threads one by one, a busy machine's later than this call's return.
        """
        self.signal(signal.SIGSTOP)
        wait_until(lambda: thread_states(self.pid) <= {"T"}, FREEZE_SECONDS, pause=0.001)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended in time."""
        return wait_until(lambda: not self.alive, seconds)

    def stop(self, seconds: float, by: Signals = Signals.SIGTERM) -> None:
        """End it cleanly; kill it where that takes longer than `seconds`."""
        self.signal(by)
        self.signal(signal.SIGCONT)
        if not self.wait(seconds):
            self.kill()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait(10)


def thread_states(pid: int) -> set[str]:
    """The letters by which the kernel tells what a process's threads do; empty once it is gone."""
    states = set()
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            states.add(file.read_text().rpartition(")")[2].split()[0])
    return states


def children_of(pid: int) -> list[ServerProcess]:
    """The processes that a process has started, and that still run."""
    found = []
    for directory in Path("/proc").iterdir():
        fields = _fields(int(directory.name)) if directory.name.isdigit() else []
        if fields and fields[1] == str(pid):
            found.append(ServerProcess(int(directory.name), fields[19]))
    return found


def start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks: tells it from a later one of that number."""
    fields = _fields(pid)
    return fields[19] if fields else ""


def _fields(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on; empty once it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return [] if fields[0] in "ZX" else fields


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C goes to the terminal's whole group: the command ends first, its servers after.
            start_new_session=True,
        )


@cache
def _spawner(pid: int) -> ThreadPoolExecutor:
    """The one thread that starts servers, for the whole life of this process.

    The kernel counts a server's parent as dead when the *thread* that started it ends; a worker
    thread of a test must not take a server with it. A forked child has another number, hence a
    thread of its own.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"servers-of-{pid}")


@cache
def bound_to(pid: int) -> tuple[str, ...]:
    """The command that makes the kernel kill a server when the process `pid`, its parent, dies;
    empty where there is none.

    Kill, not terminate: a server that a test has paused would never act on the latter. A parent
    that died before the kernel was told is somebody else by then: the shell looks, and goes too.
    """
    prefix = ("setpriv", "--pdeathsig", "KILL", "--")
    if shutil.which("setpriv") is None:
        return ()
    probe = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    if probe.returncode:
        return ()
    return (*prefix, "sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(pid))

"""Run a command as if it stood alone: it gets our signals, and we end with its status."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NOT_FOUND, NOT_EXECUTABLE = 127, 126


def run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command with further environment variables; returns its status as a shell tells it."""
    try:
        child = subprocess.Popen(command, env=_environment(variables))
    except FileNotFoundError:
        return _refuse(command[0], "is not found: correct its name, or the PATH", NOT_FOUND)
    except PermissionError:
        return _refuse(command[0], "may not be executed: see its permissions", NOT_EXECUTABLE)
    try:
        with _forwarding(child):
            status = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    return status if status >= 0 else 128 - status


def leave_on_signals() -> None:
    """Make a signal to end leave through every `finally`, so that nothing stays running."""
    for number in ENDING:
        signal.signal(number, _leave)


def ignore_signals() -> None:
    """Let nothing interrupt the stopping, which takes seconds at most."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> None:
    ignore_signals()
    sys.exit(128 + number)


@contextmanager
def _forwarding(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        # Ctrl-C reaches the child from the terminal too; a second one means "at once" to many.
        if number != signal.SIGINT or not _in_terminals_foreground():
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_terminals_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _refuse(program: str, why: str, status: int) -> int:
    print(f"{program} {why}", file=sys.stderr)
    return status


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment and `variables`; our own modules are not the command's to import."""
    environment = {**os.environ, **variables}
    before = environment.pop("DOUBLEDECKER_PYTHONPATH", None)
    if before is not None:
        environment["PYTHONPATH"] = before
    return environment

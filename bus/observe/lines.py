"""Lines: writes lines of the log to standard error. Writing one neither waits nor fails.

Lines that nobody reads, or no device takes, are dropped and counted: a log must not stop the work.
"""

import atexit
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

MOST = 4 * 1024 * 1024
"""Bytes that may wait until somebody reads; more is dropped."""
AT_ONCE = 64 * 1024
LEAVE_WITHIN = 2.0
"""Seconds that an ending process waits for lines to be written."""


class Lines:
    """Writes to standard error: to a file directly, and to what may block (a pipe, a terminal, a
    socket) in a thread."""

    def __init__(self) -> None:
        self.dropped = 0
        """The number of dropped lines that are not reported yet."""
        self.report: Callable[[int], None] = lambda _: None
        """Called with the number of dropped lines, once lines are written again."""
        self._reset()

    def write(self, line: str) -> None:
        """Writes one line, given without its end."""
        try:
            self._write(line)
        except Exception:
            self.dropped += 1

    def flush(self, within: float = LEAVE_WITHIN) -> None:
        """Waits until all is written, at most `within` seconds."""
        deadline = time.monotonic() + within
        while self._size and time.monotonic() < deadline:
            time.sleep(0.005)

    def _reset(self) -> None:
        """Begins anew, also in a forked child: it has no thread, and its parent writes the rest."""
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._thread: threading.Thread | None = None

    def _write(self, line: str) -> None:
        number = _descriptor(sys.stderr)
        if number is None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
            return
        data = f"{line}\n".encode(errors="backslashreplace")
        if stat.S_ISREG(os.fstat(number).st_mode):
            _write_all(number, data)
            self._report_dropped()
        else:
            self._put(number, data)

    def _put(self, number: int, data: bytes) -> None:
        with self._changed:
            if self._size + len(data) > MOST:
                self.dropped += 1
                return
            self._waiting.append((number, data))
            self._size += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log lines", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            number, lines = self._next()
            data = b"".join(lines)
            written = False
            try:
                _write_all(number, data)
                written = True
            except OSError:
                self.dropped += len(lines)
            finally:
                with self._changed:
                    self._size -= len(data)
            if written and self._size < MOST / 2:  # there is room for the report
                self._report_dropped()

    def _next(self) -> tuple[int, list[bytes]]:
        """Waits for lines; returns those for one descriptor, about AT_ONCE bytes at most."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            number = self._waiting[0][0]
            lines: list[bytes] = []
            size = 0
            while self._waiting and self._waiting[0][0] == number and size < AT_ONCE:
                lines.append(self._waiting.popleft()[1])
                size += len(lines[-1])
            return number, lines

    def _report_dropped(self) -> None:
        dropped, self.dropped = self.dropped, 0
        if dropped:
            self.report(dropped)


def _descriptor(stream: Any) -> int | None:
    """Returns the file descriptor of a stream, or None if it has none (an object in memory)."""
    try:
        number: int = stream.fileno()
        return number
    except (OSError, AttributeError):
        return None


def _write_all(number: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:  # the pipe was opened as non-blocking
            select.select([], [number], [])


LINES = Lines()
"""The process has one standard error."""
atexit.register(LINES.flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LINES._reset)

"""Ledger: what was intended and what its outcome was, in an append-only file of JSON lines.

Each line has left the process before the command does, so that a process killed at any moment
leaves the truth behind: a command without an outcome is one whose outcome is unknown.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tools.soak.script import author_of


class Ledger:
    """Writes lines to a file that outlives its writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # a kill tore the last line off: it stays apart
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def intend(self, id: str, command: str, attempt: str) -> None:
        """To be called before a command is sent, each time."""
        self.write({"intended": id, "command": command, "try": attempt})

    def accepted(self, id: str, versions: Mapping[str, int], seconds: float) -> None:
        self.write({"accepted": id, "versions": versions, "seconds": round(seconds, 4)})

    def refused(self, id: str, error: str, *, expected: bool, seconds: float, attempt: str) -> None:
        line = {"refused": id, "error": error, "expected": expected, "try": attempt}
        self.write({**line, "seconds": round(seconds, 4)})

    def unknown(self, id: str, error: str, seconds: float, attempt: str) -> None:
        """Not carried out, or nobody knows; the same id is sent again."""
        self.write({"unknown": id, "error": error, "try": attempt, "seconds": round(seconds, 4)})

    def stale(self, job: str, wanted: int, got: int, seconds: float) -> None:
        """A query did not include what its receipt told of."""
        self.write({"stale": job, "wanted": wanted, "got": got, "seconds": round(seconds, 4)})

    def finished(self, author: int) -> None:
        """Every step of an author has its outcome."""
        self.write({"finished": author})

    def ended(self, tasks: list[str]) -> None:
        """The process leaves by itself; `tasks` are those that nobody ended."""
        self.write({"ended": os.getpid(), "tasks": tasks})

    def write(self, line: Mapping[str, Any]) -> None:
        """Writes a line as it is."""
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


class Progress(NamedTuple):
    """How far a killed load had come: the next author, and of each unfinished one what is done."""

    next_author: int
    unfinished: Mapping[int, frozenset[str]]


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a ledger; what a kill tore off was never told to anybody."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            with suppress(ValueError):
                yield json.loads(line)


def mark_backup(path: Path) -> None:
    """Notes that a backup is taken now: what was accepted up to here has to be in it."""
    _append(path, {"backup": True})


def mark_gone(path: Path, held: Collection[str]) -> None:
    """Notes, after a backup was restored, which accepted commands are not `held` by the log."""
    accepted = (line["accepted"] for line in lines(path) if "accepted" in line)
    _append(path, {"gone": sorted({id for id in accepted if id not in held})})


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with Ledger(path) as ledger:
        ledger.write(line)


def progress(path: Path) -> Progress:
    """Where a load that was killed has to go on."""
    done: dict[int, set[str]] = {}
    finished: set[int] = set()
    latest = -1
    for line in lines(path):
        if "finished" in line:
            finished.add(line["finished"])
        elif "gone" in line:
            for id in line["gone"]:
                done[author_of(id)].discard(id)
                finished.discard(author_of(id))
        elif "intended" in line:
            author = author_of(line["intended"])
            latest = max(latest, author)
            done.setdefault(author, set())
        elif settled := line.get("accepted") or line.get("refused"):
            done[author_of(settled)].add(settled)
    unfinished = {a: frozenset(ids) for a, ids in done.items() if a not in finished}
    return Progress(latest + 1, unfinished)

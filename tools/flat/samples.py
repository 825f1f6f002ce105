"""Samples: what the kernel, and a thread within, say that a process holds."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
TICK = os.sysconf("SC_CLK_TCK")
ESTABLISHED = "01"


class Sample(NamedTuple):
    """A process at one moment. `seconds` are those since the run began; `types` are the objects
    of the most frequent types."""

    seconds: float
    rss_kib: int
    descriptors: int
    connections: int
    threads: int
    tasks: int
    objects: int
    cpu_seconds: float
    types: dict[str, int]


COUNTED = ("rss_kib", "descriptors", "connections", "threads", "tasks", "objects")
"""What must not grow."""


def sample(pid: int, counts: Path, seconds: float) -> Sample:
    """What a process holds; `counts` is the file that the thread within it writes.

    Raises: OSError where the process is gone.
    """
    inside = _last(counts)
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return Sample(
        seconds,
        int((process / "statm").read_text().split()[1]) * PAGE_KIB,
        len(list((process / "fd").iterdir())),
        _connections(process),
        int(fields[17]),
        inside.get("tasks", 0),
        inside.get("objects", 0),
        (int(fields[11]) + int(fields[12])) / TICK,
        inside.get("types", {}),
    )


def _last(counts: Path) -> dict[str, Any]:
    """The last whole line."""
    with suppress(OSError, ValueError, IndexError):
        with counts.open("rb") as file:
            file.seek(max(0, counts.stat().st_size - 64 * 1024))
            lines = file.read().rpartition(b"\n")[0].splitlines()
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    return {}


def _connections(process: Path) -> int:
    """Its TCP connections that are established, whoever began them."""
    own = set()
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            own.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    found = 0
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            rows = [row.split() for row in (process / "net" / table).read_text().splitlines()[1:]]
            found += sum(row[3] == ESTABLISHED and row[9] in own for row in rows)
    return found

"""What the kernel says of processes, and of the machine beside them."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.services import TICK, cpu_seconds
from bench.side import Metrics

IDLE = slice(3, 5)
COUNTED = slice(0, 8)
"""user, nice, system, idle, iowait, irq, softirq, steal"""


class Usage:
    """The CPU that groups of processes use from now on, and what others use beside them."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._pids = pids
        self._before = self._used()
        self._machine = _machine_seconds()
        self._since = time.monotonic()

    def for_each(self, count: int) -> Metrics:
        """Microseconds for each of so many events; `others`: the share of the machine that others
        had meanwhile (0.02 or so is the kernel's own)."""
        used = {name: after - self._before[name] for name, after in self._used().items()}
        there = (time.monotonic() - self._since) * (os.cpu_count() or 1)
        others = _machine_seconds() - self._machine - sum(used.values())
        each = {f"{name}_us": seconds * 1e6 / count for name, seconds in used.items()}
        return {**each, "total_us": sum(each.values()), "others": max(others / there, 0.0)}

    def _used(self) -> dict[str, float]:
        return {name: sum(map(cpu_seconds, of)) for name, of in self._pids.items()}


def peak_mb(pid: int) -> float:
    """The most memory that a process has ever held."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _machine_seconds() -> float:
    """CPU that everything on this machine has used."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    ticks = [int(field) for field in first.split()[1:]]
    return (sum(ticks[COUNTED]) - sum(ticks[IDLE])) / TICK

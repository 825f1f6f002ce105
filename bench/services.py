"""The servers that a benchmark runs on, and what CPU they use."""

import os
from pathlib import Path
from typing import NamedTuple

from tools.services import Found

TICK = os.sysconf("SC_CLK_TCK")


class Servers(NamedTuple):
    """URLs, and the pids of those servers that are ours (of others the CPU is not known)."""

    amqp_url: str = ""
    mongo_url: str = ""
    pids: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, found: Found) -> "Servers":
        nodes = {"rabbitmq": found.rabbitmq, "mongodb": found.mongodb}
        pids = [(name, node.pid) for name, node in nodes.items() if node and node.pid]
        return cls(found.amqp_url, found.mongo_url, tuple(pids))

    @property
    def environment(self) -> dict[str, str]:
        """What tells a side where they are."""
        return {"BUS_AMQP_URL": self.amqp_url, "BUS_MONGO_URL": self.mongo_url}

    def cpu_seconds(self) -> dict[str, float]:
        """CPU that each has used since it started, user and system."""
        return {name: cpu_seconds(pid) for name, pid in self.pids}


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used since it started, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK

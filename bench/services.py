"""The servers that a benchmark runs on, and what CPU they use."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tools.services import Found, statements
from tools.services.node import Node

TICK = os.sysconf("SC_CLK_TCK")


class Servers(NamedTuple):
    """URLs, and the pids of those servers that are ours (of others the CPU is not known)."""

    amqp_url: str = ""
    mongo_url: str = ""
    pids: tuple[tuple[str, int], ...] = ()
    sql_urls: Mapping[str, str] = {}
    java_urls: Mapping[str, str] = {}

    @classmethod
    def of(cls, found: Found) -> "Servers":
        nodes: dict[str, Node | None] = {"rabbitmq": found.rabbitmq, "mongodb": found.mongodb}
        nodes |= {name: place.node for name, place in {**found.sql, **found.java}.items()}
        pids = [(name, node.pid) for name, node in nodes.items() if node and node.pid]
        sql, java = ({n: p.url for n, p in kind.items()} for kind in (found.sql, found.java))
        return cls(found.amqp_url, found.mongo_url, tuple(pids), sql, java)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a side where they are."""
        java = {f"BENCH_{name.upper()}_URL": url for name, url in self.java_urls.items()}
        return {"BUS_AMQP_URL": self.amqp_url, "BUS_MONGO_URL": self.mongo_url, **java}

    def cpu_seconds(self) -> dict[str, float]:
        """CPU that each has used since it started, user and system."""
        return {
            name: family_cpu_seconds(pid) if name == "postgresql" else cpu_seconds(pid)
            for name, pid in self.pids
        }

    @contextmanager
    def databases(self, names: Sequence[str], database: str) -> Iterator[dict[str, str]]:
        """A new database on each of these SQL servers, and what tells a side where they are."""
        urls = {name: self.sql_urls[name] for name in names}
        try:
            yield {
                f"BENCH_{name.upper()}_URL": statements.create_database(url, database)
                for name, url in urls.items()
            }
        finally:
            for url in urls.values():
                statements.drop_database(url, database)


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used since it started, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def family_cpu_seconds(pid: int) -> float:
    """That of a process and of those that it has started: PostgreSQL's have a process for each
    connection."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / TICK
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + ended + sum(cpu_seconds(int(child)) for child in children)

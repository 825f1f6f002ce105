"""Ports of this machine: free ones, taken ones, and those of somebody's URL."""

import random
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel takes ports for outgoing connections: a node that is down
# for a moment finds its port still free.
FIRST, LAST = 20_000, 31_999

DEFAULT_PORTS = {
    "amqp": 5672,
    "amqps": 5671,
    "mongodb": 27017,
    "postgresql+asyncpg": 5432,
    "mysql+aiomysql": 3306,
    "kafka": 9092,
    "http": 80,
    "https": 443,
}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of a server killed a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Different ports on which nothing listens."""
    candidates = random.sample(range(FIRST, LAST + 1), k=1000)
    free = (port for port in candidates if is_free(port))
    return [next(free) for _ in range(count)]


def answers(host: str, port: int, seconds: float = 3.0) -> bool:
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False


def places(url: str) -> list[tuple[str, int]]:
    """Host and port of each server that a URL names; none where only DNS or memory knows them."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        return []
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return [_place(host, DEFAULT_PORTS[parts.scheme]) for host in hosts]


def _place(host: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "localhost", parts.port or default


def reachable(url: str) -> bool:
    """Whether a server of this URL accepts connections; true where that cannot be asked."""
    servers = places(url)
    return not servers or any(answers(host, port) for host, port in servers)


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True

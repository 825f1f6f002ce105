"""Ends a demo that was kept: its processes, and what it has on servers that stay."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import cast

from pymongo import MongoClient

from tools.demo import staying
from tools.demo.cleaning import clean
from tools.demo.errors import DemoFailed
from tools.demo.fold import Document
from tools.demo.processes import STOP_WITHIN
from tools.demo.statistics import Statistics
from tools.demo.staying import KeptDemo
from tools.demo.stores import Stores
from tools.services import Found, kept
from tools.services.finding import LABELS, Origin, Place, found_at
from tools.services.kept import KeptService
from tools.services.ports import places, reachable
from tools.services.process import ServerProcess


def stop(folder: Path, demo: KeptDemo) -> list[str]:
    """Ends exactly the processes that the folder's note names, then drops what the demo stored.

    Returns the names of those that it ended. Raises: DemoFailed, if a server is away: its queues or
    databases stay, and so does the note.
    """
    running = demo.running
    end(running.values())
    _drop(demo, _servers(folder, demo))
    rmtree(demo.logs, ignore_errors=True)
    staying.forget(folder)
    return [*running]


def end(processes: Iterable[ServerProcess]) -> None:
    """Ends processes, together."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda one: one.stop(STOP_WITHIN), processes))


def _servers(folder: Path, demo: KeptDemo) -> Found:
    """Returns where the demo's servers are by now; kept ones may have come back elsewhere.

    Raises: DemoFailed.
    """
    now = kept.read(folder)
    found = {}
    for name, server in demo.servers.items():
        candidates = [server, *([now[name]] if name in now else [])]
        answering = [one for one in candidates if reachable(one.url)]
        if not answering:
            raise DemoFailed(_away(name, server))
        found[name] = Place(answering[0].url, cast(Origin, answering[0].origin))
    return found_at(found, {})


def _away(name: str, server: KeptService) -> str:
    where = ", ".join(f"{host}:{port}" for host, port in places(server.url))
    start = "bin/services up" if server.origin in ("kept", "docker", "private") else "start it"
    return (
        f"its processes have ended, and {LABELS[name]} does not answer at {where}: what the demo "
        f"has there stays; {start}, then bin/demo --stop once more"
    )


def _drop(demo: KeptDemo, found: Found) -> None:
    with MongoClient[Document](found.mongo_url, tz_aware=True) as client:
        stores = Stores(found, demo.stores, demo.service, Statistics(client, demo.service))
        clean(found, demo, client, stores)

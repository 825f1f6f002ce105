"""Sees documents become visible, from a process of its own.

It watches the read collections through a change stream, which tells of a change once a majority
holds it: that is when a reader sees it, whoever wrote it and however. Nothing of that is subtracted
from any side. A third process, because the driver's and the worker's event loops are what is
measured: they must neither do this work nor delay it. The monotonic clock is the machine's, so
that times of two processes compare. Runs in the peers' environment too: PyMongo and no bus.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient

COLLECTIONS = "^views"
WAIT_MS = 200


@contextmanager
def watching(database: str) -> Iterator[list[tuple[str, int, float]]]:
    """A list of (key, version, time) for each change, which is filled when the block ends.

    The version is the document's `_version`, 0 where it has none.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, database],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    seen: list[tuple[str, int, float]] = []
    try:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{__file__} ended before it was ready")
        yield seen
    finally:
        process.send_signal(signal.SIGTERM)
        with process.stdout:
            seen += [tuple(one) for one in json.loads(process.stdout.read() or "[]")]
        process.wait(timeout=60)


def watch(database: str) -> list[tuple[str, int, float]]:
    """Watches until it is told to stop and nothing more comes."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    seen = []
    with (
        MongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client,
        client[database].watch(_pipeline(), max_await_time_ms=WAIT_MS) as stream,
    ):
        print("ready", flush=True)
        while (change := stream.try_next()) or not stopping:
            if change:
                seen.append((change["documentKey"]["_id"], _version(change), time.monotonic()))
    return seen


def _pipeline() -> list[dict[str, Any]]:
    """The keys and versions alone, so that watching stays cheap."""
    return [
        {"$match": {"ns.coll": {"$regex": COLLECTIONS}}},
        {
            "$project": {
                "documentKey": 1,
                "fullDocument._version": 1,
                "updateDescription.updatedFields._version": 1,
            }
        },
    ]


def _version(change: dict[str, Any]) -> int:
    fields = change.get("fullDocument") or change.get("updateDescription", {}).get("updatedFields")
    return int((fields or {}).get("_version", 0))


if __name__ == "__main__":
    print(json.dumps(watch(sys.argv[1])), flush=True)

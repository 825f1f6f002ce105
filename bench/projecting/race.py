"""The clock: starts worker processes that wait for a word, and stops when all is projected."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.projecting.backlog import Backlog
from bench.side import Arguments, Metrics
from bus import Bus, Worker

WITHIN = 900.0


async def until_projected(
    arguments: Arguments,
    backlog: Backlog,
    workers: int = 0,
    projected: Callable[[], Awaitable[None]] | None = None,
) -> Metrics:
    """Starts workers, one for each partition unless their number is given, lets all of them go,
    waits for the documents, or until `projected` returns."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(_worker({**arguments, "partition": number}))
            for number in range(workers or arguments["partitions"])
        ]
        start = time.perf_counter()
        for one in started:
            one.go()
        await (projected() if projected else _all_as_they_must_be(arguments, backlog))
        seconds = time.perf_counter() - start
    return {
        "per_second": backlog.count / seconds,
        "client_cpu_ms": sum(one.used["cpu"] for one in started) * 1000 / backlog.count,
        "memory_mb": max(one.used["memory_mb"] for one in started),
    }


async def work(bus: Bus, only: str) -> None:
    """Runs one part of a worker of ours, from the word on and until it is stopped."""
    async with bus:
        stop = await ready()
        with told():
            async with Worker(bus, only=[only]):
                await stop.wait()


class _Process:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.used: Metrics = {}

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        assert self._process.stdout
        self._process.send_signal(signal.SIGTERM)
        lines = self._process.communicate(timeout=60)[0].splitlines()
        self.used = json.loads(lines[-1]) if lines else {}


@contextmanager
def _worker(arguments: Arguments) -> Iterator[_Process]:
    """The same script in the role "worker"; ready when this is entered."""
    command = [sys.executable, sys.argv[0], json.dumps({**arguments, "role": "worker"})]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout
    started = _Process(process)
    try:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{sys.argv[0]}: a worker ended before it was ready")
        yield started
    finally:
        started.stop()


async def ready() -> asyncio.Event:
    """For a worker: waits for its start; what it returns is set when it is to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return stop


@contextmanager
def told() -> Iterator[None]:
    """For a worker: tells in the end what it used meanwhile."""
    before = time.process_time()
    yield
    cpu = time.process_time() - before
    print(json.dumps({"cpu": cpu, "memory_mb": side.memory_mb("VmHWM")}), flush=True)


async def _all_as_they_must_be(arguments: Arguments, backlog: Backlog) -> None:
    """Asks for the documents of the queues' ends first, which is cheap, and then for all."""
    partitions = arguments["partitions"]
    keys = {backlog.last_of(partition, partitions) for partition in range(partitions)}
    final = {"events": backlog.of_a_document}
    async with AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as client:
        views = client[arguments["service"]]["views"]

        async def ends_are() -> bool:
            return await views.count_documents({"_id": {"$in": list(keys)}, **final}) == len(keys)

        async def all_are() -> bool:
            return await views.count_documents(final) == backlog.documents

        await side.until(ends_are, "the ends of the queues are not projected", WITHIN)
        await side.until(all_are, "documents are not as the backlog makes them", WITHIN)

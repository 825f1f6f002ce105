"""What each side of a comparison is: a script that measures itself once, in a fresh process.

    python script.py '{"count": 1000, ...}'   prints one JSON object as its last line

Runs in the peers' environment too, so it knows the standard library alone.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Arguments = dict[str, Any]
Metrics = dict[str, float]

WORKER_STARTS_WITHIN = 60.0


def run(measure: Callable[[Arguments], Awaitable[Metrics]], **roles: Any) -> None:
    """The script's main function: measures, or plays the role that `worker` started it for."""
    arguments = json.loads(sys.argv[1])
    role = roles.get(arguments.pop("role", ""), measure)
    found = asyncio.run(role(arguments))
    if role is measure:
        print(json.dumps({"memory_mb": memory_mb("VmHWM"), **found}), flush=True)


@contextmanager
def worker(arguments: Arguments, role: str = "worker", *, packages: str = "") -> Iterator[int]:
    """The same script as another process, in another role; told to stop in the end. Its pid.

    With `packages`, a folder, it starts as `bare_python` does.
    """
    python, environment = bare_python(packages) if packages else ([sys.executable], None)
    command = [*python, sys.argv[0], json.dumps({**arguments, "role": role})]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    try:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{sys.argv[0]}: the {role} ended before it was ready")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        process.stdout.close()


def bare_python(packages: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of an interpreter that finds what is in that folder, and runs
    nothing at its start; it keeps the bytecode it makes, as that of installed packages is kept."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    paths = [os.environ.get("PYTHONPATH", ""), packages]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return [sys.executable, "-S"], environment


def memory_mb(which: str, pid: int | str = "self") -> float:
    """What a process has in memory: VmRSS now, or VmHWM, which is the most so far.

    `ru_maxrss` would not do: a process inherits it from the one that started it.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{which}:"))
    return int(line.split()[1]) / 1024


def cpu_ms(pid: int) -> float:
    """CPU that a process's main thread has used since it started."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


async def ready_until_stopped() -> None:
    """For a worker: says that it is ready, and waits for the end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()


async def concurrently(
    count: int, concurrent: int, one: Callable[[int], Awaitable[object]]
) -> float:
    """Runs `one(0)` to `one(count - 1)`, so many at a time; returns the seconds it took."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await one(number)

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrent)))
    return time.perf_counter() - start


async def best_of(loops: int, loop: Callable[[int], Awaitable[None]], count: int) -> Metrics:
    """Microseconds for each of the `count` things that `loop` does: the fastest of many loops, all
    in this process, after one to warm up. The fastest is the one that others disturbed least."""
    await loop(count)
    seconds = []
    for _ in range(loops):
        start = time.perf_counter()
        await loop(count)
        seconds.append(time.perf_counter() - start)
    return {"microseconds": min(seconds) / count * 1e6, "count": count * (loops + 1)}


async def until(condition: Callable[[], Awaitable[bool]], missing: str, within: float) -> None:
    """Asks every 10 ms. Raises: SystemExit, which says what is missing."""
    deadline = time.monotonic() + within
    while not await condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{sys.argv[0]}: after {within:.0f} s: {missing}")
        await asyncio.sleep(0.01)

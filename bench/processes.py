"""What a fresh process costs: to import, until ready, in memory.

Runs in the peers' environment too, so it knows the standard library alone.
"""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable

from bench import side

IDLE = 2.0

_IMPORT = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import {module}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
with open("/proc/self/status") as status:
    memory = next(line for line in status if line.startswith("VmRSS:")).split()[1]
print(wall * 1000, cpu * 1000, int(memory) / 1024)
"""


def imported(module: str, times: int) -> side.Metrics:
    """The medians of importing a module in so many fresh interpreters."""
    runs = [_import_once(module) for _ in range(times + 1)][1:]  # the first one compiles
    wall, cpu, memory = (statistics.median(values) for values in zip(*runs, strict=True))
    return {"milliseconds": wall, "cpu_ms": cpu, "imported_mb": memory}


def _import_once(module: str) -> list[float]:
    done = subprocess.run(
        [*side.bare_python(), "-c", _IMPORT.format(module=module)],
        env=side.bare_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(value) for value in done.stdout.split()]


def until_ready(arguments: side.Arguments) -> side.Metrics:
    """From starting the worker's process until it is ready; with `again`, of its second start."""
    for _ in range(2 if arguments.get("again") else 1):
        start = time.perf_counter()
        with side.worker(arguments, bare=True) as pid:
            milliseconds = (time.perf_counter() - start) * 1000
            cpu = side.cpu_ms(pid)
    return {"milliseconds": milliseconds, "cpu_ms": cpu}


async def memory_of_worker(
    arguments: side.Arguments, load: Callable[[side.Arguments], Awaitable[None]]
) -> side.Metrics:
    """A worker's memory when it has been idle for two seconds, and when `load` has loaded it."""
    with side.worker(arguments, bare=True) as pid:
        await asyncio.sleep(IDLE)
        idle = side.memory_mb("VmRSS", pid)
        await load(arguments)
        return {
            "idle_mb": idle,
            "loaded_mb": side.memory_mb("VmRSS", pid),
            "peak_mb": side.memory_mb("VmHWM", pid),
        }

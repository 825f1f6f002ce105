"""What a fresh process costs: to import, until ready, in memory.

Runs in the peers' environment too, so it knows the standard library alone.
"""

import asyncio
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from bench import side

IDLE = 2.0

_NAME = re.compile(r"\s*([\w.-]+)\s*(?:\[(.*?)\])?")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([\w-]+)")
_IMPORT = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import {module}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
with open("/proc/self/status") as status:
    memory = next(line for line in status if line.startswith("VmRSS:")).split()[1]
print(wall * 1000, cpu * 1000, int(memory) / 1024)
"""


@contextmanager
def installed(*requirements: str) -> Iterator[str]:
    """A folder with what installing these would bring, and nothing else of this environment.

    Libraries use what they find: a tool that only our tests need would be imported, too.
    """
    with tempfile.TemporaryDirectory(prefix="bench-packages-") as folder:
        wanted, seen = list(requirements), set()
        while wanted:
            name, extras = _name_of(wanted.pop())
            if (name, extras) not in seen:
                seen.add((name, extras))
                with suppress(metadata.PackageNotFoundError):  # one for other platforms
                    wanted += _link(metadata.distribution(name), extras, Path(folder))
        yield folder


def _name_of(requirement: str) -> tuple[str, frozenset[str]]:
    found = _NAME.match(requirement)
    assert found
    return found[1].lower(), frozenset((found[2] or "").replace(" ", "").split(",")) - {""}


def _link(found: metadata.Distribution, extras: frozenset[str], folder: Path) -> list[str]:
    """Links the distribution's files into the folder; returns what it requires."""
    for top in {file.parts[0] for file in found.files or () if file.suffix != ".pth"}:
        link = folder / top
        if top not in ("..", "/") and not link.is_symlink():
            link.symlink_to(Path(str(found.locate_file(top))))
    requirements = (line.partition(";") for line in found.requires or ())
    asked = ((_EXTRA.search(marker), requirement) for requirement, _, marker in requirements)
    return [requirement for extra, requirement in asked if extra is None or extra[1] in extras]


def imported(module: str, times: int, packages: str) -> side.Metrics:
    """The medians of importing a module in so many fresh interpreters."""
    runs = [_import_once(module, packages) for _ in range(times + 1)][1:]  # the first one compiles
    wall, cpu, memory = (statistics.median(values) for values in zip(*runs, strict=True))
    return {"milliseconds": wall, "cpu_ms": cpu, "imported_mb": memory}


def _import_once(module: str, packages: str) -> list[float]:
    python, environment = side.bare_python(packages)
    code = _IMPORT.format(module=module)
    done = subprocess.run(
        [*python, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return [float(value) for value in done.stdout.split()]


def until_ready(arguments: side.Arguments, packages: str) -> side.Metrics:
    """From starting the worker's process until it is ready; with `again`, of its second start."""
    for _ in range(2 if arguments.get("again") else 1):
        start = time.perf_counter()
        with side.worker(arguments, packages=packages) as pid:
            milliseconds = (time.perf_counter() - start) * 1000
            cpu = side.cpu_ms(pid)
    return {"milliseconds": milliseconds, "cpu_ms": cpu}


async def memory_of_worker(
    arguments: side.Arguments, load: Callable[[side.Arguments], Awaitable[None]], packages: str
) -> side.Metrics:
    """A worker's memory when it has been idle for two seconds, and when `load` has loaded it."""
    with side.worker(arguments, packages=packages) as pid:
        await asyncio.sleep(IDLE)
        idle = side.memory_mb("VmRSS", pid)
        await load(arguments)
        return {
            "idle_mb": idle,
            "loaded_mb": side.memory_mb("VmRSS", pid),
            "peak_mb": side.memory_mb("VmHWM", pid),
        }


async def measure(
    arguments: side.Arguments,
    load: Callable[[side.Arguments], Awaitable[None]],
    *,
    module: str,
    requirements: tuple[str, ...],
) -> side.Metrics:
    """What a case of `starting` asks, of a side that is installed by these requirements."""
    with installed(*requirements) as packages:
        match arguments["what"]:
            case "import":
                return imported(module, arguments["count"], packages)
            case "ready":
                return until_ready(arguments, packages)
            case _:
                return await memory_of_worker(arguments, load, packages)

"""One flat run: servers, a worker, a relay and an API; a load, then nothing; samples of each."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tools.flat.load import Load, watch
from tools.flat.samples import Sample, sample
from tools.services.mongodb import MongoNode
from tools.services.ports import LOOPBACK, answers, free_ports, wait_until
from tools.services.process import ServerProcess
from tools.services.rabbitmq import RabbitMQNode

ROOT = Path(__file__).parents[2]
TARGET = "handlers.app:build"
LOAD, IDLE = "load", "idle"
READY_WITHIN, STOP_WITHIN, SAYS_WITHIN = 60.0, 60.0, 5.0
SHOWN = 4000
"""Characters of the log of a process that did not end."""
Tell = Callable[[str], None]
LEAST_EVERY, MOST_EVERY, SAMPLES_OF_A_PHASE = 1.0, 15.0, 20


class Plan(NamedTuple):
    """Minutes of load and of nothing, and how many commands a second."""

    minutes: float
    idle: float
    rate: float

    @property
    def every(self) -> float:
        """Seconds between samples: few enough to tell a slope in the shorter phase."""
        phases = [minutes for minutes in (self.minutes, self.idle) if minutes > 0]
        return min(MOST_EVERY, max(LEAST_EVERY, min(phases) * 60 / SAMPLES_OF_A_PHASE))


class Watched(NamedTuple):
    """What came of it: samples by phase and process, and what the load saw."""

    plan: Plan
    samples: Mapping[str, Mapping[str, Sequence[Sample]]]
    commands: int
    seconds: float
    failed: Counter[str]
    slowest: float
    ended: Sequence[str]


class Processes:
    """A worker, a relay and an API, each with a thread that counts what it holds."""

    def __init__(self, folder: Path, environment: Mapping[str, str], every: float) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._every = every
        self.running: dict[str, ServerProcess] = {}
        (self._port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{self._port}"

    def start(self) -> None:
        """Returns when the API answers. Raises: TimeoutError."""
        self._start("worker", "bus", "worker", TARGET)
        self._start("relay", "bus", "relay", TARGET)
        self._start("api", "handlers.http", "--host", LOOPBACK, "--port", str(self._port))
        if not wait_until(lambda: answers(LOOPBACK, self._port), READY_WITHIN):
            raise TimeoutError(f"the API does not answer; its log is in {self._folder}")

    def _start(self, name: str, *module: str) -> None:
        inside = ("tools.flat.inside", str(self.counts(name)), str(self._every))
        self.running[name] = ServerProcess.start(
            [sys.executable, "-m", *inside, *module],
            environment=self._environment,
            log=self._folder / f"{name}.log",
            detached=False,
        )

    def counts(self, name: str) -> Path:
        """Where the thread within a process writes."""
        return self._folder / f"{name}.counts"

    def stop(self) -> list[str]:
        """Ends all; returns what did not end as it should, with what it was doing then."""
        for process in self.running.values():
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN
        return [
            self._end_by_force(name, process)
            for name, process in self.running.items()
            if not process.wait(max(deadline - time.monotonic(), 0.0))
        ]

    def _end_by_force(self, name: str, process: ServerProcess) -> str:
        process.stop(SAYS_WITHIN, by=signal.SIGABRT)
        said = (self._folder / f"{name}.log").read_text(errors="replace")
        return f"{name} did not end within {STOP_WITHIN:g} s of SIGTERM:\n{said[-SHOWN:]}"


async def run(plan: Plan, folder: Path, tell: Tell) -> Watched:
    """Raises: ServiceError, TimeoutError, RuntimeError where a process ended."""
    tell(
        f"Starting RabbitMQ, MongoDB, a worker, a relay and an API; a sample every {plan.every:g} s"
    )
    with _servers(folder) as environment:
        processes = Processes(folder, environment, plan.every)
        try:
            await asyncio.to_thread(processes.start)
            return await _watched(plan, processes, folder, tell)
        finally:
            await asyncio.to_thread(processes.stop)


async def _watched(plan: Plan, processes: Processes, folder: Path, tell: Tell) -> Watched:
    load = Load(processes.url, plan.rate)
    samples: dict[str, dict[str, list[Sample]]] = {}
    async with _in_background(watch(processes.url)):
        async with _sampling(processes, plan.every, samples.setdefault(LOAD, {})):
            tell(f"{plan.rate:g} commands a second for {plan.minutes:g} minutes ...")
            began = time.monotonic()
            await load.run(plan.minutes * 60)
            seconds = time.monotonic() - began
        async with _sampling(processes, plan.every, samples.setdefault(IDLE, {})):
            tell(f"{load.taken:,} commands taken; idle for {plan.idle:g} minutes ...")
            await asyncio.sleep(plan.idle * 60)
    _keep(samples, folder)
    ended = await asyncio.to_thread(processes.stop)
    return Watched(plan, samples, load.taken, seconds, load.failed, load.slowest, ended)


def _keep(samples: Mapping[str, Mapping[str, Sequence[Sample]]], folder: Path) -> None:
    """All samples, for who wants to see what grew when; with `--keep`, or where something did."""
    rows = [
        {"phase": phase, "process": name, **one._asdict()}
        for phase, processes in samples.items()
        for name, taken in processes.items()
        for one in taken
    ]
    (folder / "samples.json").write_text(json.dumps(rows))


@contextmanager
def _servers(folder: Path) -> Iterator[dict[str, str]]:
    """Those that the environment names, else private ones; what the processes are told of them."""
    name = f"flat{uuid.uuid4().hex[:8]}"
    own = {"BUS_MONGO_DB": name, "JOBBOARD_SERVICE": name}
    if "BUS_AMQP_URL" in os.environ and "BUS_MONGO_URL" in os.environ:
        yield own
        return
    with ExitStack() as stack:
        rabbit = stack.enter_context(RabbitMQNode(folder / "rabbitmq"))
        mongo = stack.enter_context(MongoNode(folder / "mongodb"))
        yield {**own, "BUS_AMQP_URL": rabbit.url, "BUS_MONGO_URL": mongo.url}


@asynccontextmanager
async def _sampling(
    processes: Processes, every: float, into: dict[str, list[Sample]]
) -> AsyncIterator[None]:
    """Samples every process while in the block."""
    began = time.monotonic()

    async def sample_all() -> None:
        while True:
            seconds = time.monotonic() - began
            for name, process in processes.running.items():
                if not process.alive:
                    raise RuntimeError(f"the {name} ended by itself")
                found = await asyncio.to_thread(
                    sample, process.pid, processes.counts(name), seconds
                )
                into.setdefault(name, []).append(found)
            await asyncio.sleep(max(0.0, began + seconds + every - time.monotonic()))

    async with _in_background(sample_all()):
        yield


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Cancelled at the end of the block; what it raised before that is raised then."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        done = task.done()
        task.cancel()
        await asyncio.wait([task])
        if done:
            task.result()

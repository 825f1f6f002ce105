"""One point: what a command costs under one setting, on the way to saturation and when idle.

    python bench/growth/point.py '{"service": ..., "streams": 0, ...}'

First single commands arrive slowly, on an otherwise idle system: latency. Then as many at once as
are asked for, for some seconds: throughput until the last is visible everywhere, and the CPU that
each process used meanwhile.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count as counting
from typing import Any

from pymongo import AsyncMongoClient

from bench import side
from bench.growth.process import Usage, peak_mb
from bench.growth.service import Deposit, Open, build, name_of, note
from bench.latency.arrivals import Arrival, at_rate, latencies
from bench.latency.watching import watching
from bench.services import cpu_seconds
from bus import Bus, Command, Receipt, Worker
from bus.errors import ConcurrencyError

SLOWLY = 25.0
WARM_UP = 1.0
CHUNK = 1000
VISIBLE_WITHIN = 120.0

Versions = dict[str, int]


async def work(arguments: side.Arguments) -> None:
    names = [name_of(number + 1) for number in range(arguments["subscriptions"])]
    async with _build(arguments) as bus, Worker(bus, only=names):
        await side.ready_until_stopped()


async def drive(arguments: side.Arguments) -> side.Metrics:
    async with _build(arguments) as bus, AsyncMongoClient[Any](os.environ["BUS_MONGO_URL"]) as own:
        load = Load(bus, own[arguments["service"]], arguments)
        with ExitStack() as stack:
            workers = [
                stack.enter_context(side.worker(arguments)) for _ in range(arguments["workers"])
            ]
            await load.run(WARM_UP)
            latency = await load.latency() if workers else {}
            return {**latency, **await load.throughput(workers)}


class Load:
    """Commands on the streams that the arguments say, and whether they are visible."""

    def __init__(self, bus: Bus, database: Any, arguments: side.Arguments) -> None:
        self._bus = bus
        self._database = database
        self._arguments = arguments
        self._keys = self._endless_keys()
        self._reached: Versions = {}
        self.failed = 0

    async def latency(self) -> side.Metrics:
        """Of single commands: until `execute` returns, and until all read collections show it."""
        keys: dict[str, tuple[str, int]] = {}

        async def execute(number: str) -> None:
            receipt = await self._execute(next(self._keys))
            ((stream, version),) = receipt.versions.items()
            keys[number] = stream.partition("-")[2], version

        with watching(self._arguments["service"]) as seen:
            arrivals = await at_rate(SLOWLY, self._arguments["singles"], execute)
            await self._visible()
        found = latencies(arrivals, _when_last_seen(seen, arrivals, keys))
        return {"execute_ms": found["execute_ms"], "visible_ms": found["median_ms"]}

    async def throughput(self, workers: Sequence[int]) -> side.Metrics:
        """Commands per second until the last is visible, and CPU for each, in microseconds."""
        usage = Usage({"client": [os.getpid()], "worker": workers, **self._arguments["pids"]})
        before = {pid: cpu_seconds(pid) for pid in workers}
        done, seconds = await self.run(self._arguments["seconds"])
        busy = [cpu_seconds(pid) - since for pid, since in before.items()]
        return {
            "per_second": done / seconds,
            "conflicts_given_up": self.failed,
            "busiest_worker": max(busy, default=0.0) / (sum(busy) or 1.0),
            "memory_mb": max((peak_mb(pid) for pid in workers), default=0.0),
            **usage.for_each(done),
        }

    async def run(self, seconds: float) -> tuple[int, float]:
        """Loads for so long; returns how many commands, and the time until all are visible."""
        start = time.perf_counter()
        done = 0

        async def client() -> None:
            nonlocal done
            while time.perf_counter() - start < seconds:
                try:
                    await self._execute(next(self._keys))
                    done += 1
                except ConcurrencyError:
                    self.failed += 1

        await asyncio.gather(*(client() for _ in range(self._arguments["concurrent"])))
        await self._visible()
        return done, time.perf_counter() - start

    async def _execute(self, key: str) -> Receipt:
        text = note(self._arguments["payload"])
        kind = Open if self._arguments["command"] == "open" else Deposit
        command: Command = kind(account_id=key, note=text)
        receipt = await self._bus.execute(command)
        ((_, version),) = receipt.versions.items()
        self._reached.pop(key, None)  # the latest come last
        self._reached[key] = version
        return receipt

    async def _visible(self) -> None:
        """Waits for the latest in each read collection; the others must be there by then."""
        if not self._arguments["workers"]:
            return
        latest = dict(list(self._reached.items())[-CHUNK:])
        for number in range(self._arguments["subscriptions"]):
            views = self._database[name_of(number + 1)]

            async def are_visible(views: Any = views) -> bool:
                wanted = {"_id": {"$in": list(latest)}}
                found = {
                    row["_id"]: row.get("_version", 0)
                    async for row in views.find(wanted, {"_version": 1})
                }
                return all(found.get(key, 0) >= version for key, version in latest.items())

            await side.until(are_visible, "commands are not visible", VISIBLE_WITHIN)

    def _endless_keys(self) -> Iterator[str]:
        """Names of streams: new ones (0), or the first so many, in turn, or any that was filled, or
        so many of these that are busy."""
        streams, filled = self._arguments["streams"], self._arguments["filled"]
        busy = self._arguments["busy"] or filled
        run = f"{time.time_ns():x}"
        step = 7919  # a prime: neighbours in the database are not neighbours in time
        for number in counting():
            if filled and self._arguments["command"] == "deposit":
                yield f"p{number * step % busy * (filled // busy)}"
            else:
                yield f"s{number % streams}" if streams else f"{run}.{number}"


def _when_last_seen(
    seen: Sequence[tuple[str, int, float]],
    arrivals: Sequence[Arrival],
    keys: dict[str, tuple[str, int]],
) -> dict[str, float]:
    """When each arrival's version was in all read collections: each tells of each version once."""
    told: dict[tuple[str, int], float] = {}
    for key, version, when in seen:
        told[key, version] = max(when, told.get((key, version), 0.0))
    return {one.key: told[keys[one.key]] for one in arrivals}


def _build(arguments: side.Arguments) -> Bus:
    return build(
        arguments["service"],
        subscriptions=arguments["subscriptions"],
        partitions=arguments["partitions"],
    )


if __name__ == "__main__":
    side.run(drive, worker=work)

"""One measurement in fresh processes, with queues and a database of its own, removed afterwards."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiormq
from pymongo import MongoClient

from bench.growth.prefill import fill
from bench.growth.service import name_of
from bench.services import Servers
from bench.side import Arguments, Metrics
from bus.transports.topology import DELAYS, command_queue, dead_queue, projection_queues

ROOT = Path(__file__).parents[2]
LARGE = 500_000
"""A log of so many events is filled once and used again; what a run adds hardly counts."""
TRIES = 3
DISTURBED = 0.15


class Runs:
    """Runs points; those that are alike share a measurement within a round."""

    def __init__(self, servers: Servers, stack: ExitStack) -> None:
        self._servers = servers
        self._stack = stack
        self._done: dict[tuple[int, str], Metrics] = {}
        self._filled: dict[int, str] = {}

    def once(self, script: str, arguments: Arguments, turn: int) -> Metrics:
        """A run beside which somebody else kept the machine busy is repeated, twice at most."""
        alike = turn, json.dumps([script, arguments], sort_keys=True)
        for _ in range(TRIES if alike not in self._done else 0):
            with ExitStack() as stack:
                service = self._service(arguments, stack)
                stack.callback(_delete_queues, self._servers.amqp_url, service, arguments)
                self._done[alike] = self._run(script, {**arguments, "service": service})
            if self._done[alike]["others"] < DISTURBED:
                break
            print("  growth: others are busy on this machine", file=sys.stderr)
        return self._done[alike]

    def _service(self, arguments: Arguments, stack: ExitStack) -> str:
        """A service's name, its log filled; it is dropped with the stack, or, if large, later."""
        filled = arguments["filled"]
        if filled in self._filled:
            return self._filled[filled]
        service = f"bench_{uuid.uuid4().hex[:8]}"
        large = filled >= LARGE
        (self._stack if large else stack).callback(_drop, self._servers.mongo_url, service)
        if filled:
            print(f"  growth: filling a log with {filled:,} events ...", file=sys.stderr)
            url, payload = self._servers.mongo_url, arguments["payload"]
            fill(url, service, filled, payload)
        if large:
            self._filled[filled] = service
        return service

    def _run(self, script: str, arguments: Arguments) -> Metrics:
        pids = {name: [pid] for name, pid in self._servers.pids}
        command = [
            sys.executable,
            str(ROOT / "bench" / "growth" / script),
            json.dumps({**arguments, "pids": pids}),
        ]
        environment = {**os.environ, **self._servers.environment, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            out, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode:
            raise SystemExit(f"{script} failed with status {process.returncode}: {arguments}")
        found: Metrics = json.loads(out.splitlines()[-1])
        return found


def _drop(mongo_url: str, service: str) -> None:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.drop_database(service)


def _delete_queues(amqp_url: str, service: str, arguments: Arguments) -> None:
    """Idle queues cost a broker something too, and there would be some hundreds in the end."""
    queues = [command_queue(service).name, dead_queue(service)]
    queues += [f"{service}.delay.{seconds}s" for seconds in DELAYS]
    for number in range(arguments["subscriptions"]):
        found = projection_queues(
            service, name_of(number + 1), ["account"], arguments["partitions"]
        )
        queues += [queue.name for queue in found]

    async def delete() -> None:
        connection = await aiormq.connect(amqp_url)
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue)
        await connection.close()

    asyncio.run(delete())

"""Scene: all that a soak runs on and its faults break: servers, wires, processes."""

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Self

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed
from pymongo import MongoClient

from bus import Settings, __version__
from tools.faults.mongo_set import MongoSet
from tools.faults.proxy import Proxy
from tools.faults.rabbit_cluster import RabbitCluster
from tools.services.rabbitmq import RabbitMQNode
from tools.soak.log import SQL, Document, Log
from tools.soak.mongo_log import MongoLog
from tools.soak.observer import Observer
from tools.soak.plan import SERVICE, Plan
from tools.soak.processes import LOAD, RELAY, WORKERS, Processes
from tools.soak.sinks.elsewhere import Elsewhere
from tools.soak.sinks.plan import FED, FED_WORKERS
from tools.soak.sql_log import SqlLog

SWEEP_EVERY = "15"
SAFE_AGE = 2.0
"""A quorum queue younger than that may not survive the kill of its only node, nor RabbitMQ 3.10 its
deletion: INTERNAL_ERROR from then on, whatever is asked of it."""
MADE_WITHIN = 10.0

USER = "service"
"""Whom MongoDB knows the service's processes as; the password is the same word."""
RIGHTS = [{"role": "readWrite", "db": database} for database in (SERVICE, FED)]


class Scene:
    """Everything private to one soak; it ends with the block."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.ledger_path = folder / "ledger.jsonl"
        self.probes_path = folder / "probes.jsonl"
        self.rabbit = RabbitCluster(folder / "rabbitmq", size=plan.nodes)
        self.mongo = MongoSet(folder / "mongodb", size=plan.members, guarded=True)
        self.broker_wires: list[Proxy] = []
        self.store_wires: list[Proxy] = []
        self.log_wires: list[Proxy] = []
        self.poisoned = 0
        self.struck = ""
        """Which store a fault has struck last; for the record of faults."""
        self.release_2_since: datetime | None = None
        self._declared = time.monotonic()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self.rabbit.close, remove=True)
            stack.push_async_callback(asyncio.to_thread, self.mongo.close, remove=True)
            await self._start_servers(stack)
            await asyncio.to_thread(self._let_the_service_in)
            await self._lay_wires(stack)
            self.database = self.client[SERVICE]
            self.observer = Observer(self.database)
            self.processes = Processes(self.folder, self.environment, self._load_options())
            stack.callback(self.processes.kill_all)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start_servers(self, stack: AsyncExitStack) -> None:
        in_sql = self._log_in_sql()
        starts = [self.rabbit.start, self.mongo.start]
        if in_sql:
            stack.push_async_callback(asyncio.to_thread, in_sql.end)
            starts.append(in_sql.start)
        await asyncio.gather(*map(asyncio.to_thread, starts))
        self.client: MongoClient[Document] = MongoClient(self.mongo.url, tz_aware=True)
        stack.callback(self.client.close)
        self.log: Log = in_sql or MongoLog(self.mongo, self.client)
        self.elsewhere = Elsewhere(self.plan.sinks, self.folder, self.client)
        stack.push_async_callback(asyncio.to_thread, self.elsewhere.end)
        await asyncio.to_thread(self.elsewhere.start)

    def _log_in_sql(self) -> SqlLog | None:
        plan = self.plan
        if plan.log not in SQL:
            return None
        return SqlLog(plan.log, self.folder / plan.log, small_disk=plan.small_disk)

    def _let_the_service_in(self) -> None:
        """As a user with rights to the service's own database alone; faults take them away."""
        self.client.admin.command("createUser", USER, pwd=USER, roles=RIGHTS)

    async def _lay_wires(self, stack: AsyncExitStack) -> None:
        if "broker" in self.plan.wires:
            self.broker_wires = [Proxy(node.url) for node in self.rabbit.nodes]
        if "store" in self.plan.wires:
            self.store_wires = [Proxy(self.store_url)]
        if "log" in self.plan.wires:
            self.log_wires = [Proxy(self.log.url)]
        for wire in self.wires:
            await stack.enter_async_context(wire)

    @property
    def wires(self) -> list[Proxy]:
        return [*self.broker_wires, *self.store_wires, *self.log_wires, *self.elsewhere.wires]

    @property
    def log_wire(self) -> Proxy:
        """What leads to the log; it may carry documents, too."""
        return (self.log_wires or self.store_wires)[0]

    @property
    def sql_log(self) -> SqlLog:
        """The log, of faults that only one in SQL can have."""
        assert isinstance(self.log, SqlLog)
        return self.log

    @property
    def store_url(self) -> str:
        """MongoDB's, for the service's user."""
        return self.mongo.url_of(f"{USER}:{USER}@")

    @property
    def environment(self) -> dict[str, str]:
        """What the service's processes are told."""
        amqp = ",".join(wire.url for wire in self.broker_wires) or self.rabbit.url
        return {
            "BUS_AMQP_URL": amqp,
            "BUS_MONGO_URL": self.store_wires[0].url if self.store_wires else self.store_url,
            "BUS_MONGO_DB": SERVICE,
            "BUS_LOG_URL": self.log_wires[0].url if self.log_wires else self.log.url,
            "BUS_SWEEP_EVERY": SWEEP_EVERY,
            "JOBBOARD_SERVICE": SERVICE,
            **self.elsewhere.environment,
        }

    @property
    def settings(self) -> Settings:
        """The same, for a bus in this process."""
        told = self.environment
        return Settings(
            amqp_url=told["BUS_AMQP_URL"],
            mongo_url=told["BUS_MONGO_URL"],
            mongo_db=SERVICE,
            log_url=told["BUS_LOG_URL"],
        )

    async def start_processes(self) -> None:
        """Workers first, so that queues are there; then what feeds them."""
        fed = FED_WORKERS if self.elsewhere.is_fed else ()
        for name in (*WORKERS, RELAY, *fed):
            self.processes.start(name)
        for name in (*WORKERS, *fed):
            await asyncio.to_thread(self.processes.await_worker, name)
        self.processes.start(LOAD)
        self.queues_declared()

    @property
    def ledgers(self) -> tuple[Path, Path]:
        return self.ledger_path, self.probes_path

    @property
    def release(self) -> str:
        """The latest that runs, or has run."""
        return "2" if self.release_2_since else "1"

    def collection(self, projection: str) -> str:
        """Where readers read: recovering moves them to another one."""
        known = self.database["projections"].find_one({"_id": projection}) or {}
        return known.get("active") or projection

    @property
    def versions(self) -> dict[str, str]:
        return {
            "doubledecker": __version__,
            "rabbitmq": self.rabbit.nodes[0].version,
            "mongodb": self.mongo.nodes[0].version,
            self.plan.log: self.log.node.version,
            **self.elsewhere.versions,
            "python": platform.python_version(),
        }

    def queues_declared(self) -> None:
        """To be called when queues are new."""
        self._declared = time.monotonic()

    async def queues_safe(self) -> None:
        """Waits until no queue is too young to survive a kill."""
        await asyncio.sleep(max(0.0, self._declared + SAFE_AGE - time.monotonic()))

    def any_broker(self) -> RabbitMQNode:
        return next(node for node in self.rabbit.nodes if node.running)

    async def at_broker(self, action: Callable[[AbstractChannel], Awaitable[object]]) -> None:
        """Does it over a channel that no wire carries; anew where RabbitMQ closes the channel: a
        queue or an exchange that is being made anew is not found for a moment."""
        deadline = time.monotonic() + MADE_WITHIN
        while True:
            connection = await aio_pika.connect(self.any_broker().url, timeout=10)
            async with connection, connection.channel() as channel:
                try:
                    await action(channel)
                    return
                except ChannelClosed:
                    if time.monotonic() > deadline:
                        raise
            await asyncio.sleep(0.2)

    def _load_options(self) -> list[str]:
        plan = self.plan
        return [
            f"--ledger={self.ledger_path}",
            f"--seed={plan.seed}",
            f"--authors={plan.authors}",
        ]

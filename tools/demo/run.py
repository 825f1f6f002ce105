"""One run: start the processes, drive them, kill some, wait until all is settled, compare."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import MongoClient

from tools.demo import staying
from tools.demo.breaking import Breaking
from tools.demo.cleaning import clean
from tools.demo.client import PATIENCE, Client
from tools.demo.errors import DemoFailed
from tools.demo.fold import Document
from tools.demo.http import Connection, get
from tools.demo.load import load
from tools.demo.processes import WORKER, Processes
from tools.demo.report import Places, Report
from tools.demo.screen import Screen
from tools.demo.statistics import TARGET, Statistics
from tools.demo.stores import Stores
from tools.demo.tally import Tally
from tools.demo.verify import Books, settle
from tools.demo.written import Written, WrittenInMongoDB, WrittenInSQL
from tools.services import Found, statements
from tools.services.finding import LABELS

READY_WITHIN = 60.0
PEOPLE = 24
WORKERS = 2
LONG_PATIENCE = 180.0
"""Seconds, for an answer or for the end, where servers that take their time are killed."""


class Plan(NamedTuple):
    """What is asked of a run. `log` is the SQL server that has the log, if one has; `stores` are
    the other stores that documents are kept in besides. With `keep`, a folder, the processes go on,
    queues and databases stay, and the folder has a note of them."""

    commands: int
    seed: int
    service: str
    database: str
    keep: Path | None
    began: float
    log: str = ""
    stores: tuple[str, ...] = ()


def run(found: Found, plan: Plan, logs: Path, screen: Screen) -> Report:
    """Raises: DemoFailed."""
    client: MongoClient[Document] = MongoClient(found.mongo_url, tz_aware=True)
    with client, ExitStack() as ending:
        log_url = _make_log(found, plan)
        stores = Stores(found, plan.stores, plan.service, Statistics(client, plan.service))
        ending.callback(clean, found, plan, client, stores)
        stores.make()
        report = _run(found, plan, logs, screen, client, log_url, stores)
        if plan.keep:
            ending.pop_all()
        return report


def _run(
    found: Found,
    plan: Plan,
    logs: Path,
    screen: Screen,
    client: MongoClient[Document],
    log_url: str,
    stores: Stores,
) -> Report:
    tally, books = Tally(), Books(client[plan.database], _written(client, plan, log_url), stores)
    environment = _environment(found, plan, log_url) | stores.environment
    patience = LONG_PATIENCE if stores else PATIENCE
    note = staying.noted(plan.keep, found, plan, environment, logs) if plan.keep else None

    def report(processes: Processes) -> Report:
        return Report(
            _places(found, plan, version, client),
            tally,
            books.check(),
            processes.counted(),
            processes.kills[WORKER],
            time.monotonic() - plan.began,
            logs,
            stores.told,
            breaking.broken,
            stores.repeated,
        )

    with Processes(logs, environment, note=note) as processes:
        version = _start(found, processes, screen)
        _start_statistics(stores, processes, screen)
        breaking = Breaking(processes, stores, screen.stage)
        asyncio.run(_drive(plan, tally, processes, screen, breaking, patience))
        screen.stage("Waiting until every event has arrived ...")
        settle(books, lambda: _look_after(processes), patience=2 * patience)
        if plan.keep:
            screen.stage("Comparing all that they stored with the log ...")
            return report(processes)
        screen.stage("Stopping the processes, then comparing all that they stored with the log ...")
    return report(processes)


def _make_log(found: Found, plan: Plan) -> str:
    """Makes the database of a log in SQL, and returns its URL. Raises: DemoFailed."""
    if not plan.log:
        return ""
    try:
        return statements.create_database(found.sql[plan.log].url, plan.database)
    except statements.REFUSALS as error:
        raise DemoFailed(
            f"{LABELS[plan.log]} does not make the database {plan.database!r}: {error}; drop it if "
            f"it is of an earlier run, or unset BUS_MONGO_DB and JOBBOARD_SERVICE, which name it"
        ) from None


def _written(client: MongoClient[Document], plan: Plan, log_url: str) -> Written:
    """Makes the service's own table, where it has one; returns what reads what is written."""
    if not log_url:
        return WrittenInMongoDB(client[plan.database])
    from handlers.rooms_in_sql import make_table  # without --log nothing of SQL is needed

    asyncio.run(make_table(log_url))
    return WrittenInSQL(log_url)


def _places(found: Found, plan: Plan, broker: str, client: MongoClient[Document]) -> Places:
    mongo = client.server_info()["version"]
    log = found.sql[plan.log] if plan.log else None
    return Places(
        "memory" if found.amqp_origin == "memory" else "rabbitmq",
        broker,
        found.amqp_origin,
        mongo,
        found.mongo_origin,
        plan.log or "mongodb",
        f"{LABELS[plan.log]} {statements.version(log.url)}" if log else f"MongoDB {mongo}",
        log.origin if log else found.mongo_origin,
    )


def _environment(found: Found, plan: Plan, log_url: str) -> dict[str, str]:
    names = {"JOBBOARD_SERVICE": plan.service, "BUS_MONGO_DB": plan.database}
    return {**found.environment, **names, "BUS_LOG_URL": log_url, "BUS_LOG_LEVEL": "DEBUG"}


def _start(found: Found, processes: Processes, screen: Screen) -> str:
    """Starts what the broker allows; returns the broker's name and version."""
    if found.amqp_origin == "memory":
        screen.stage("Starting API, worker and relay in one process (without RabbitMQ) ...")
        processes.start_api("--with-worker")
    else:
        screen.stage(f"Starting an API, {WORKERS} workers and a relay ...")
        processes.start_api()
        processes.start_workers(WORKERS)
        processes.start_relay()
    return _broker(processes)


def _start_statistics(stores: Stores, processes: Processes, screen: Screen) -> None:
    """Starts the third service where there is Kafka, which it is fed from."""
    if stores.statistics:
        screen.stage("Starting the third service, which knows nothing of RabbitMQ ...")
        processes.start_statistics(TARGET, stores.statistics.environment)


def _broker(processes: Processes) -> str:
    """Waits until the API is ready and its broker connected, which then tells what it is."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        _look_after(processes)
        broker = asyncio.run(_asked(processes.url))
        if broker.get("healthy"):
            return str(broker["is"])
        time.sleep(0.1)
    raise DemoFailed(
        f"the API was not ready within {READY_WITHIN:g} s; its log is {processes.folder}/api.log"
    )


async def _asked(url: str) -> dict[str, Any]:
    """What the API says of its broker; nothing while it is not ready."""
    response = await get(url, "/readyz")
    health: dict[str, Any] = response.json() if response else {"ready": False}
    return health["broker"] if health["ready"] else {}


async def _drive(
    plan: Plan,
    tally: Tally,
    processes: Processes,
    screen: Screen,
    breaking: Breaking,
    patience: float,
) -> None:
    """Returns when all commands are answered, and all that was broken is back."""
    broken: list[asyncio.Task[None]] = []

    async def halfway() -> None:
        broken.append(asyncio.create_task(asyncio.to_thread(breaking.run)))

    def goes_on() -> bool:
        return any(not task.done() for task in broken)

    async def look() -> None:
        while True:
            _look_after(processes)
            await asyncio.sleep(0.5)

    connections = [Connection(processes.url) for _ in range(PEOPLE)]
    clients = [Client(connection, tally, patience) for connection in connections]
    tally.start()
    with screen.bar(plan.commands) as bar:
        await _race(
            load(
                clients,
                tally,
                count=plan.commands,
                seed=plan.seed,
                halfway=halfway,
                goes_on=goes_on,
            ),
            bar.follow(tally),
            look(),
        )
        bar.show(tally)
    await asyncio.gather(*broken)
    for connection in connections:
        connection.close()


async def _race(*runners: Coroutine[Any, Any, None]) -> None:
    """Runs all until the first one ends or fails, then cancels the others."""
    tasks = [asyncio.create_task(runner) for runner in runners]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_after(processes: Processes) -> None:
    if ended := processes.ended:
        raise DemoFailed(f"{', '.join(ended)} ended by itself; the logs are in {processes.folder}")

"""Each alert is seen to fire on a real Prometheus that scrapes a real worker, with the very thing
broken that it watches, and to end once that is mended.

The rules are the file that people get, with all its times divided. What is broken stays so until
its alert fires, however long a busy machine takes.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from bus import Bus, DeadLetters, ProjectionError, Projections, Settings
from bus.rebuild.drift import audit_of
from bus.stores.control import change_note
from tests.fault import tower
from tests.fault.tower import Ring
from tests.servers import lent
from tests.waiting import until
from tools.services import MongoNode, PrometheusNode, RabbitMQNode
from tools.services.ports import free_ports
from tools.services.process import ServerProcess

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "prometheus"
FASTER = 60
WITHIN = 60.0
QUIET_FOR = 3.0
DAY = 24 * 3600.0

QUIET = {
    *("Queries", "How long queries take", "Conflicts and repeats"),  # the service has none
    *("Commands that fail", "Consumers missing", "Retries", "Put off", "Given up", "Dead letters"),
    *("Builds", "Since the last audit", "Documents that differed"),
    *("Health", "Event loop blocked", "Loops that fail"),
}
"""The panels of the board that show nothing while a service is well, and nobody asks for more."""


class Tower:
    """The one worker of the service, which is ended and started again, and what is the matter."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        (self.port,) = free_ports(1)
        self.process: ServerProcess | None = None
        self.only: tuple[str, ...] = ()

    def start(self, *only: str) -> None:
        """Have a worker run, of these subscriptions or of all."""
        if self.process is not None and self.process.alive and self.only == only:
            return
        self.kill()
        self.only = only
        options = [word for name in only for word in ("--only", name)]
        self.process = ServerProcess.start(
            [sys.executable, "-m", "bus", "worker", "tests.fault.tower:build", *options],
            environment={
                **os.environ,
                "BUS_AMQP_URL": self.settings.amqp_url,
                "BUS_MONGO_URL": self.settings.mongo_url,
                "BUS_HEALTH_PORT": str(self.port),
                "BUS_FACTS_EVERY": "0.5",
                "BUS_HEARTBEAT": "2",
                "PYTHONPATH": str(ROOT),
                tower.FOLDER: str(self.folder),
            },
            log=self.folder / "worker.out",
            detached=False,
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    @contextmanager
    def matter(self, what: str) -> Iterator[None]:
        (self.folder / what).touch()
        try:
            yield
        finally:
            (self.folder / what).unlink()


@pytest.fixture(scope="module")
def tower_of_module(
    broker_of_module: RabbitMQNode,
    database_of_module: MongoNode,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tower]:
    settings = Settings(amqp_url=broker_of_module.url, mongo_url=database_of_module.url)
    folder = tmp_path_factory.mktemp("tower")
    patched = pytest.MonkeyPatch()
    patched.setenv(tower.FOLDER, str(folder))
    one = Tower(settings, folder)
    try:
        yield one
    finally:
        one.kill()
        patched.undo()


@pytest.fixture(scope="module")
def prometheus(
    prometheus_kind: type[PrometheusNode],
    tower_of_module: Tower,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PrometheusNode]:
    node = prometheus_kind(
        tmp_path_factory.mktemp("prometheus"),
        config=DEPLOY / "prometheus.yml",
        rules=DEPLOY / "alerts.yml",
        speed=FASTER,
    )
    node.scrape([tower_of_module.port])
    with lent(node):
        yield node


@pytest.fixture
def worker(tower_of_module: Tower, broker: RabbitMQNode, database: MongoNode) -> Tower:
    """The tower, which runs, whatever the test before has left."""
    tower_of_module.start()
    return tower_of_module


@pytest.fixture
async def bus(worker: Tower) -> AsyncIterator[Bus]:
    """The service in this process, where nothing is consumed and nobody scrapes."""
    async with tower.build(worker.settings) as bus:
        yield bus


async def audited(bus: Bus, projection: str, *, repair: bool = False) -> None:
    """Audits; again where a busy machine took longer than writes can be held."""

    async def done() -> bool:
        try:
            await Projections(bus).audit(projection, repair=repair)
        except ProjectionError:  # as it is said: "try again when there is less to do"
            return False
        return True

    await until(done, f"{projection} is audited", within=90)


async def fire(node: PrometheusNode, *names: str) -> None:
    """Wait until each of these alerts has fired."""
    left = {*names}

    def all_fired() -> bool:
        left.difference_update(alert.name for alert in node.alerts() if alert.state == "firing")
        return not left

    await _until(all_fired, f"{names} fire", node)


async def end(node: PrometheusNode, *names: str) -> None:
    """Wait until none of these alerts fires, nor is about to, for some scrapes that succeed: one
    that fails ends an alert, too."""
    began = time.monotonic()

    def is_quiet() -> bool:
        nonlocal began
        if {*names} & named(node) or not node.query("up == 1"):
            began = time.monotonic()
        return time.monotonic() - began > QUIET_FOR

    await _until(is_quiet, f"{names} end", node)


async def value(node: PrometheusNode, *expressions: str) -> None:
    """Wait until one of these expressions gives something."""
    await _until(lambda: any(map(node.query, expressions)), f"{expressions}", node)


def named(node: PrometheusNode) -> set[str]:
    return {alert.name for alert in node.alerts()}


async def _until(condition: Callable[[], bool], what: str, node: PrometheusNode) -> None:
    async def looked() -> bool:
        if condition():
            return True
        await asyncio.sleep(0.2)
        return False

    try:
        await until(looked, what, within=WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{error}; alerts now: {node.alerts()}") from None


@asynccontextmanager
async def again_and_again(
    work: Callable[[int], Coroutine[Any, Any, object]], *, every: float
) -> AsyncIterator[None]:
    """Does it for the whole block, one beside the other if it takes long; errors are not ours."""

    async def go_on() -> None:
        for number in range(1_000_000):
            running.add(task := asyncio.create_task(work(number)))
            task.add_done_callback(forget)
            await asyncio.sleep(every)

    def forget(done: asyncio.Task[object]) -> None:
        running.discard(done)
        if not done.cancelled():
            done.exception()

    running: set[asyncio.Task[object]] = set()
    going = asyncio.create_task(go_on())
    try:
        yield
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_service_that_is_well_has_no_alert(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    await bus.execute(Ring(bell="well"))
    await value(prometheus, "bus_facts_age_seconds")
    await _until(lambda: named(prometheus) == set(), "nothing fires, nor is about to", prometheus)


async def test_a_service_that_works_is_on_the_board(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    panels = {title: asked for title, asked in asked_by_the_board().items() if title not in QUIET}
    assert len(panels) > 20

    async with again_and_again(lambda n: bus.send(Ring(bell=f"w{n}")), every=0.1):
        for asked in panels.values():
            await value(prometheus, *asked)


def asked_by_the_board() -> dict[str, list[str]]:
    """The expressions of each panel, for all services and the last minute."""
    board = json.loads((ROOT / "deploy" / "grafana" / "doubledecker.json").read_text())
    return {
        panel["title"]: [
            target["expr"].replace("$service", ".*").replace("$__rate_interval", "1m")
            for target in panel["targets"]
        ]
        for panel in board["panels"]
        if "targets" in panel
    }


# --- commands ------------------------------------------------------------------------------------


async def test_commands_that_fail(worker: Tower, bus: Bus, prometheus: PrometheusNode) -> None:
    async with again_and_again(lambda n: bus.send(Ring(bell=f"f{n}")), every=0.2):
        with worker.matter(tower.COMMANDS_FAIL):
            await fire(prometheus, "BusCommandsFail")
        await end(prometheus, "BusCommandsFail")
    await DeadLetters(bus).discard(all=True)


async def test_commands_that_are_slow(worker: Tower, bus: Bus, prometheus: PrometheusNode) -> None:
    async with again_and_again(lambda n: bus.send(Ring(bell=f"s{n}")), every=0.3):
        with worker.matter(tower.COMMANDS_SLOW):
            await fire(prometheus, "BusCommandsSlow")
        await end(prometheus, "BusCommandsSlow")


async def test_commands_that_meet_on_a_stream(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    async def four(number: int) -> None:
        await asyncio.gather(*(bus.send(Ring(bell=f"m{number}")) for _ in range(4)))

    with worker.matter(tower.COMMANDS_MEET):
        async with again_and_again(four, every=0.3):
            await fire(prometheus, "BusConflictsMany")
    async with again_and_again(lambda n: bus.send(Ring(bell=f"a{n}")), every=0.3):
        await end(prometheus, "BusConflictsMany")


# --- handlers ------------------------------------------------------------------------------------


async def test_handlers_that_fail_and_what_they_leave(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    with worker.matter(tower.CHIMES_FAIL):
        async with again_and_again(lambda n: bus.execute(Ring(bell=f"h{n}")), every=0.2):
            await fire(prometheus, "BusRetriesMany", "BusDeadLetters")
    await end(prometheus, "BusRetriesMany")
    await fire(prometheus, "BusDeadLetters")  # still: nothing ends them by itself
    await DeadLetters(bus).retry(all=True)
    await end(prometheus, "BusDeadLetters")


async def test_handlers_that_are_slower_than_what_comes(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    async def ten(number: int) -> None:
        await asyncio.gather(*(bus.execute(Ring(bell=f"g{number}.{n}")) for n in range(10)))

    with worker.matter(tower.CHIMES_SLOW):
        for hundred in range(12):
            rings = [bus.execute(Ring(bell=f"g{hundred}-{n}")) for n in range(100)]
            await asyncio.gather(*rings)
        async with again_and_again(ten, every=0.5):
            await fire(prometheus, "BusQueueGrows", "BusQueueDelay")
    await end(prometheus, "BusQueueGrows", "BusQueueDelay")


async def test_handlers_that_block_the_loop(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    with worker.matter(tower.CHIMES_BLOCK):
        async with again_and_again(lambda n: bus.execute(Ring(bell=f"b{n}")), every=3):
            await fire(prometheus, "BusEventLoopBlocked")
    await end(prometheus, "BusEventLoopBlocked")


# --- projections ---------------------------------------------------------------------------------


async def test_streams_that_cannot_be_applied(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    with worker.matter(tower.BELLS_FAIL):
        await bus.execute(Ring(bell="sour"))
        await fire(prometheus, "BusStreamsParked")
    await DeadLetters(bus).retry(all=True)
    await end(prometheus, "BusStreamsParked")


async def test_what_no_worker_runs_stands_still(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    for number in range(20):
        await bus.execute(Ring(bell=f"n{number}"))
    with worker.matter(tower.SUMS_SLOW):
        await Projections(bus).rebuild("sums")
        await value(prometheus, 'bus_projection_build{projection="sums"} < 1')
        worker.kill()
    worker.start("chimes")
    await bus.execute(Ring(bell="late"))
    await fire(prometheus, "BusQueueWithoutConsumer", "BusProjectionBehind", "BusBuildStands")
    worker.start()
    await end(prometheus, "BusQueueWithoutConsumer", "BusProjectionBehind", "BusBuildStands")


async def test_documents_that_differ_from_the_log(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    collection = await read_collection(bus, "bells")
    await bus.execute(Ring(bell="true"))
    with MongoClient[dict[str, Any]](worker.settings.mongo_url) as client:
        documents = client[tower.SERVICE][collection]
        await until(lambda: documents.find_one({"_id": "true"}), "it is projected")
        documents.update_one({"_id": "true"}, {"$inc": {"times": 9}})
    await audited(bus, "bells")
    await fire(prometheus, "BusAuditDiffers")
    await audited(bus, "bells", repair=True)
    await end(prometheus, "BusAuditDiffers")


async def test_an_audit_that_is_old(worker: Tower, bus: Bus, prometheus: PrometheusNode) -> None:
    await audited(bus, "sums")
    note = audit_of(await read_collection(bus, "sums"))
    await change_note(bus.runtime.control, note, lambda was: {**was, "at": was["at"] - 15 * DAY})
    await fire(prometheus, "BusAuditOld")
    await audited(bus, "sums")
    await end(prometheus, "BusAuditOld")


async def test_a_part_that_cannot_be_measured(
    worker: Tower, bus: Bus, prometheus: PrometheusNode
) -> None:
    note = audit_of(await read_collection(bus, "sums"))
    await change_note(bus.runtime.control, note, lambda was: {"of": "who knows"})
    await fire(prometheus, "BusStateUnmeasured")
    await audited(bus, "sums")
    await end(prometheus, "BusStateUnmeasured")


async def read_collection(bus: Bus, name: str) -> str:
    """The collection that readers of a projection read now."""
    (projection,) = [one for one in bus.runtime.projections if one.name == name]
    return (await bus.runtime.catalogue.target(projection)).collection


# --- servers and processes -----------------------------------------------------------------------


async def test_commits_that_are_not_published(
    worker: Tower, bus: Bus, broker: RabbitMQNode, prometheus: PrometheusNode
) -> None:
    await asyncio.to_thread(broker.stop)
    await bus.execute(Ring(bell="quiet"))
    await fire(prometheus, "BusCommitsUnpublished")
    await asyncio.to_thread(broker.start)
    await end(prometheus, "BusCommitsUnpublished")


async def test_a_process_that_is_not_ready(
    worker: Tower, database: MongoNode, prometheus: PrometheusNode
) -> None:
    await value(prometheus, "bus_facts_age_seconds")
    database.pause()
    await fire(prometheus, "BusNotReady", "BusNobodyMeasures")
    database.resume()
    await end(prometheus, "BusNotReady", "BusNobodyMeasures")


async def test_a_worker_that_is_gone_was_the_last_to_measure(
    worker: Tower, prometheus: PrometheusNode
) -> None:
    await value(prometheus, "bus_facts_age_seconds")
    worker.kill()
    await fire(prometheus, "BusWorkerGone", "BusNobodyMeasures")
    worker.start()
    await end(prometheus, "BusWorkerGone", "BusNobodyMeasures")

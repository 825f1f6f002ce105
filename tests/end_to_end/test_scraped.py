"""What workers answer for /metrics under a load: the truth to the last message, whoever dies."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus import Bus, Settings
from bus.testing.contracts.event_log_contract import commit
from tests.end_to_end.processes import ServiceProcess, WorkerProcess
from tests.scraping import page, spread, total
from tests.servers import lent
from tests.service.wallet import Diary, Pay, build
from tests.waiting import in_parts, until
from tools.services import MongoNode
from tools.services.ports import free_ports

COMMANDS = 1000
WALLETS = 40
MOST = 50


@pytest.fixture
async def bus(real_settings: Settings, unique: str) -> AsyncIterator[Bus]:
    async with build(real_settings, Diary(), unique) as bus:
        yield bus


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def workers(
    settings: Settings, service: str, folder: Path, *ports: int, **variables: str
) -> list[WorkerProcess]:
    """Two workers, which answer at these ports."""
    return [
        WorkerProcess(
            settings,
            service,
            folder / f"log{number}",
            names={"BUS_HEALTH_PORT": str(port), "BUS_FACTS_EVERY": "0.5", **variables},
        )
        for number, port in enumerate(ports)
    ]


async def send(bus: Bus) -> None:
    """Sends commands to the workers."""
    await in_parts(
        bus.send(Pay(wallet_id=f"w{number % WALLETS}", amount=1)) for number in range(COMMANDS)
    )


def counted(text: bytes, service: str) -> dict[str, float]:
    """What is said of the load: each command is one commit of one event, for two subscriptions."""
    return {
        "commands": total(text, "bus_commands_total", message="Pay", outcome="done"),
        "commits": total(text, "bus_stored_commits_total"),
        "events": total(text, "bus_stored_events_total"),
        "published": total(text, "bus_published_total"),
        "handled": total(text, "bus_events_handled_total", outcome="done"),
        "projected": total(text, "bus_projection_events_total"),
        "settled": total(text, "bus_settled_total", queue=f"{service}.commands", outcome="done"),
        "not done": total(text, "bus_commands_total", outcome="failed"),
    }


def off(text: bytes, service: str, commands: int) -> dict[str, float]:
    """What is not said of so many commands. What the relay took to be left, on a busy machine, is
    published and handled once more."""
    again = dict.fromkeys(("published", "handled"), total(text, "bus_relayed_total"))
    found = counted(text, service)
    least = {**dict.fromkeys(found, commands), "not done": 0}
    return {
        name: value
        for name, value in found.items()
        if not least[name] <= value <= least[name] + again.get(name, 0)
    }


async def test_sums_are_exact_though_a_worker_is_killed(
    bus: Bus, real_settings: Settings, unique: str, tmp_path: Path, port: int
) -> None:
    (shared := tmp_path / "shared").mkdir()
    names = {"PROMETHEUS_MULTIPROC_DIR": str(shared), "BUS_HEARTBEAT": "60"}
    first, second = workers(real_settings, unique, tmp_path, port, port, **names)

    async def expect(commands: int) -> bytes:
        text = b""

        async def as_it_is() -> bool:
            nonlocal text
            text = await page(port)
            return not off(text, unique, commands)

        try:
            await until(as_it_is, "the sums come to the load's", within=60)
        except AssertionError:
            assert off(text, unique, commands) == {}
        return text

    async with first:
        await first.ready()
        async with second:
            await second.ready()
            assert "health_port_taken" in second.log()
            await send(bus)
            await expect(COMMANDS)
            second.kill()
            await second.ended(10)
            await send(bus)
            text = await expect(2 * COMMANDS)
    found = {label: values for label, values in spread(text).items() if len(values) > MOST}
    assert not found
    assert total(text, "bus_command_duration_seconds_count") >= COMMANDS


async def test_one_of_two_workers_tells_the_states_and_the_other_one_after_it(
    bus: Bus, real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    ports = free_ports(2)
    first, second = workers(real_settings, unique, tmp_path, *ports, BUS_FACTS_EVERY="3")

    async def measuring() -> list[int]:
        pages = {one: await page(one) for one in ports}
        return [one for one, text in pages.items() if b"bus_facts_age_seconds" in text]

    async def one_measures() -> int:
        found = await measuring()
        return found[0] if len(found) == 1 else 0

    async with first, second:
        await first.ready()
        await second.ready()
        port = await until(one_measures, "one of them measures")
        killed, left = (first, ports[1]) if port == ports[0] else (second, ports[0])
        text = await page(left)
        for name in ("bus_projection_lag_seconds", "bus_queue_messages", "bus_unpublished"):
            assert total(await page(port), name) == 0
            assert name.encode() not in text
        killed.kill()

        async def the_other_measures() -> bool:
            return await measuring() == [left]

        await until(the_other_measures, "the other one measures")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with lent(MongoNode(tmp_path_factory.mktemp("mongodb"))) as node:
        yield node


async def test_metrics_are_answered_while_the_database_stands_still(
    real_settings: Settings, database: MongoNode, unique: str, tmp_path: Path, port: int
) -> None:
    settings = real_settings.model_copy(update={"mongo_url": database.url})
    (worker,) = workers(settings, unique, tmp_path, port)
    async with worker:
        await worker.ready()

        async def measured() -> bool:
            text = await page(port)
            return b"bus_facts_age_seconds" in text and b"bus_health" in text

        await until(measured, "states are measured")
        database.pause()
        try:

            async def said_so() -> bool:
                async with asyncio.timeout(30):
                    text = await page(port)
                assert b"bus_unpublished_age_seconds" in text  # as it was
                is_away = total(text, "bus_health", part="database", breaks="ready") == 1
                return is_away and total(text, "bus_facts_age_seconds") > 3

            await until(said_so, "health is told, and how old the states are", within=60)
        finally:
            database.resume()

        async def is_over() -> bool:
            text = await page(port)
            well = total(text, "bus_health", part="database", breaks="ready") == 0
            return well and total(text, "bus_facts_age_seconds") < 3

        await until(is_over, "the database is back", within=60)


async def test_a_relay_answers_too(
    bus: Bus, real_settings: Settings, unique: str, tmp_path: Path, port: int
) -> None:
    command = [sys.executable, "-m", "bus", "relay", "tests.end_to_end.wallet_service:build"]
    named = {"WALLET_SERVICE": unique, "BUS_HEALTH_PORT": str(port), "BUS_FACTS_EVERY": "0.5"}
    async with ServiceProcess(real_settings, tmp_path / "log", *command, **named):
        await until(lambda: page(port), "it answers")
        log = bus.runtime.event_log
        await log.append([commit("left", "wallet-left", time=log.now())])

        async def relayed() -> bool:
            text = await page(port)
            return total(text, "bus_relayed_total") == 1 and b"bus_health{" in text

        await until(relayed, "what it relays is counted")

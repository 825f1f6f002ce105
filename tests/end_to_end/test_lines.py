"""What API, worker and relay write to standard error while things go wrong: JSON, line by line."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from bus import Settings
from tests.databases import drop
from tests.end_to_end.processes import ServiceProcess, WorkerProcess
from tests.servers import lent
from tests.waiting import until
from tools.services import RabbitMQNode
from tools.services.ports import LOOPBACK, free_ports

TARGET = "tests.end_to_end.wallet_service:build"
STEADY = {"BUS_HEARTBEAT": "60"}
SLOW = frozenset(
    {"event_loop_blocked", "listener_slow", "loop_goes_on", "loop_held_up", "rabbitmq_retry"}
)
"""What a busy machine may add."""
MOODS = ("", "later", "fails once", "needs the ladder", "always fails", "rejects")


class Api(ServiceProcess):
    started = "Uvicorn running"

    def __init__(self, settings: Settings, service: str, log: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        command = (sys.executable, "-m", "tests.end_to_end.wallet_api", str(port))
        super().__init__(settings, log, *command, WALLET_SERVICE=service, **STEADY)


class Relay(ServiceProcess):
    started = "connected"

    def __init__(self, settings: Settings, service: str, log: Path) -> None:
        command = (sys.executable, "-m", "bus", "relay", TARGET)
        super().__init__(settings, log, *command, WALLET_SERVICE=service, **STEADY)


class Three(NamedTuple):
    broker: RabbitMQNode
    api: Api
    worker: WorkerProcess
    relay: Relay

    async def pay(self, wallet: str, mood: str = "") -> None:
        async with httpx.AsyncClient(base_url=self.api.url, timeout=60) as client:
            params = {"amount": "1", "mood": mood}
            answer = await client.post(f"/wallets/{wallet}/payments", params=params)
            assert answer.status_code == 200, answer.text

    async def fail(self) -> None:
        async with httpx.AsyncClient(base_url=self.api.url, timeout=60) as client:
            assert (await client.get("/failure")).status_code == 500


@pytest.fixture
async def three(mongo_url: str, unique: str, tmp_path: Path) -> AsyncIterator[Three]:
    with lent(RabbitMQNode(tmp_path / "rabbitmq")) as broker:
        settings = Settings(amqp_url=broker.url, mongo_url=mongo_url, mongo_db=unique)
        async with (
            WorkerProcess(settings, unique, tmp_path / "worker", names=STEADY) as worker,
            Api(settings, unique, tmp_path / "api") as api,
            Relay(settings, unique, tmp_path / "relay") as relay,
        ):
            for process in (worker, api, relay):
                await process.ready()
            yield Three(broker, api, worker, relay)
    await drop(mongo_url, unique)


def lines_of(process: ServiceProcess) -> list[dict[str, Any]]:
    """Its lines, each of which must be an object."""
    lines = [json.loads(line) for line in process.log().splitlines()]
    for line in lines:
        assert line["event"]
        assert line["level"] in ("debug", "info", "warning", "error", "critical"), line
        assert line["timestamp"]
    return lines


def counted(process: ServiceProcess) -> Counter[tuple[str, str]]:
    """How many lines there are of each level and event; those of a library by its logger."""
    return Counter(
        (line["level"], line.get("logger") or line["event"])
        for line in lines_of(process)
        if line["event"] not in SLOW
    )


def has(process: ServiceProcess, event: str, count: int = 1) -> bool:
    return [line["event"] for line in lines_of(process)].count(event) >= count


def about(process: ServiceProcess, event: str) -> int:
    """How many messages such lines are about."""
    return len({line["message_id"] for line in lines_of(process) if line["event"] == event})


async def test_each_line_is_json_and_each_happening_is_as_many_lines_as_the_page_says(
    three: Three,
) -> None:
    for number, mood in enumerate(MOODS):
        await three.pay(f"w{number}", mood)
    await three.fail()
    await until(lambda: about(three.worker, "gave_up") == 2, "two are given up", within=60)
    await until(lambda: about(three.worker, "retried") == 2, "two go by the ladder", within=60)
    await asyncio.to_thread(three.broker.stop)
    for process in (three.api, three.worker, three.relay):
        await until(partial(has, process, "rabbitmq_away", 2), "it is missed", within=60)
    for number in range(20):
        await three.pay(f"v{number}")
    await until(lambda: has(three.api, "not_published"), "they are left to the relay", within=60)
    await asyncio.to_thread(three.broker.start)
    for process in (three.api, three.worker, three.relay):
        await until(partial(has, process, "connected", 4), "it is back", within=120)
    await until(lambda: relayed(three) >= 1, "the relay catches up", within=60)
    await until(partial(publishes_again, three), "it publishes again", within=60)
    for process in (three.api, three.worker, three.relay):
        process.terminate()
        await process.ended(60)

    away = {
        ("info", "connected"): 4,
        ("warning", "disconnected"): 2,
        ("warning", "rabbitmq_away"): 2,
    }
    api = counted(three.api)
    assert api.pop(("info", "uvicorn.error")) >= 4  # it starts, listens, shuts down
    assert api == {
        **away,
        ("error", "uvicorn.error"): 1,
        ("warning", "not_published"): 1,
        ("info", "publishing_again"): 1,
    }
    lost = [line for line in lines_of(three.api) if line["event"] == "disconnected"]
    assert all(line.get("reason") for line in lost), lost
    (failed,) = (line for line in lines_of(three.api) if line["level"] == "error")
    assert "LookupError: what nobody expected" in failed["exception"]

    worker, relay = counted(three.worker), counted(three.relay)
    assert 1 <= relayed(three) <= 4  # not once for each time that it was tried meanwhile
    for deck in (worker, relay):
        del deck["info", "relayed"]
        for either in (("warning", "not_published"), ("info", "publishing_again")):
            assert deck.pop(either, 0) <= 1  # whichever process it is that relays
    assert relay == away
    for either in (("warning", "retried"), ("error", "gave_up")):
        del worker[either]  # one more for each that the relay publishes again on a busy machine
        assert about(three.worker, either[1]) == 2
    assert worker == {**away, ("info", "worker_started"): 1, ("info", "worker_stopped"): 1}


async def publishes_again(three: Three) -> bool:
    """Pays once more; what comes before the channel is open again is left to the relay as well."""
    await three.pay("last")
    await asyncio.sleep(0.5)
    return has(three.api, "publishing_again")


def relayed(three: Three) -> int:
    """How many lines say that the backlog was relayed, by whichever process."""
    return sum(counted(one)["info", "relayed"] for one in (three.relay, three.worker))

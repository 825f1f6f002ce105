"""The demo, small, on the test run's services: the main job from end to end, a worker killed."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from bus import Settings
from bus.kafka.topics import administering
from tools.demo import cleaning
from tools.services import statements
from tools.services.jars import search

ROOT = Path(__file__).parents[2]
PROMISED = {
    "broker", "broker_version", "mongo_version", "commands", "refused", "events", "documents",
    "wrong_documents", "duplicates", "worker_kills", "p50_ms", "p99_ms", "commands_per_second",
    "seconds", "log", "states", "wrong_states", "bookings", "wrong_bookings",
}  # fmt: skip


def demo(settings: Settings, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        **variables,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
    }
    return subprocess.run(
        [ROOT / "bin" / "demo", "--commands", "300", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def settings(amqp_url: str, mongo_url: str) -> Settings:
    return Settings(amqp_url=amqp_url, mongo_url=mongo_url)


def test_the_demo_ends_with_every_document_right_after_a_worker_was_killed(
    settings: Settings,
) -> None:
    done = demo(settings, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report.keys() >= PROMISED
    assert (report["broker"], report["wrong_documents"]) == ("rabbitmq", 0)
    assert report["worker_kills"] == 1
    assert report["commands"] >= 300
    assert report["refused"] > 0
    assert report["documents"] > 200
    assert report["p50_ms"] <= report["p99_ms"]
    assert report["log"] == "mongodb"
    assert report["states"] >= max(report["bookings"], 1)
    assert (report["wrong_states"], report["wrong_bookings"]) == (0, 0)


@pytest.fixture(params=["postgresql", "mariadb"])
def log(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An SQL server: its name, and its URL."""
    return request.param, request.getfixturevalue(f"{request.param}_server")


def test_with_its_log_in_sql_all_is_right_and_nothing_is_left_on_the_server(
    settings: Settings, log: tuple[str, str], service: str, postgresql_server: str
) -> None:
    """With tables for analysts besides."""
    name, server = log
    done = demo(settings, "--json", "--log", name, "--stores", "tables", JOBBOARD_SERVICE=service)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["log"], report["worker_kills"], report["lost_commands"]) == (name, 1, 0)
    assert report["events"] > 150
    assert report["states"] >= max(report["bookings"], 1)
    wrong = [report[f"wrong_{what}"] for what in ("documents", "states", "bookings", "rows")]
    assert wrong == [0, 0, 0, 0]
    assert report["rows"] > 20
    for where, database in ((server, service), (postgresql_server, f"{service}_analysis")):
        with pytest.raises(statements.REFUSALS):
            statements.run(statements.of_database(where, database), "SELECT 1")


def test_with_all_stores_all_is_right_and_nothing_is_left_in_them(
    settings: Settings,
    service: str,
    postgresql_server: str,
    opensearch_url: str,
    kafka_server: str,
) -> None:
    """It kills none of the servers, which are the test run's, but both of the workers."""
    servers = {"BUS_TEST_OPENSEARCH_URL": opensearch_url, "BUS_TEST_KAFKA_URL": kafka_server}
    done = demo(settings, "--json", "--stores", "all", JOBBOARD_SERVICE=service, **servers)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    kept = ("documents", "rows", "searched", "records", "counts")
    assert [report[f"wrong_{what}"] for what in kept] == [0] * len(kept)
    assert min(report["rows"], report["searched"], report["records"]) > 20
    assert report["counts"] > 0
    assert (report["worker_kills"], report["dead_letters"]) == (1, 0)
    assert report["broken"] == [
        "the third service's worker killed",
        "connections to PostgreSQL cut",
    ]
    assert search.call(opensearch_url, "GET", f"/_cat/indices/{service}*?format=json") == []
    assert asyncio.run(topics(kafka_server, service)) == []
    with MongoClient[dict[str, Any]](settings.mongo_url) as client:
        assert [name for name in client.list_database_names() if service in name] == []


async def topics(url: str, service: str) -> list[str]:
    async with administering(url, "the test") as admin:
        return [name for name in await admin.list_topics() if service in name]


def test_the_demo_reports_to_people(settings: Settings) -> None:
    done = demo(settings)
    assert done.returncode == 0, done.stderr
    assert "Nothing is wrong: every document equals the fold of the log." in done.stdout
    assert "job_board: what people browse" in done.stdout
    assert "the room booked for it: a document of the service's own" in done.stdout


def test_without_rabbitmq_the_demo_runs_in_one_process_and_says_so(settings: Settings) -> None:
    done = demo(settings, "--json", "--broker", "memory")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["broker"], report["wrong_documents"]) == ("memory", 0)
    assert report["worker_kills"] == 0
    assert "without RabbitMQ" in done.stderr


@pytest.fixture
def service(settings: Settings, unique: str) -> Iterator[str]:
    """A name for the demo's service, of which nothing is left behind however the demo ends."""
    yield unique
    cleaning.delete_queues(settings.amqp_url, unique)
    with MongoClient[dict[str, Any]](settings.mongo_url) as client:
        client.drop_database(unique)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_its_processes_end_with_the_demo_whatever_ends_it(
    settings: Settings, service: str, number: signal.Signals, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "JOBBOARD_SERVICE": service,
        "TMPDIR": str(tmp_path),
    }
    command = [str(ROOT / "bin" / "demo"), "--commands", "100000"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as running:
        wait_until(lambda: len(processes_of(service)) >= 5, "the demo's processes do not run")
        running.send_signal(number)
    wait_until(lambda: not processes_of(service), "processes outlived the demo")
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def processes_of(service: str) -> list[int]:
    """The demo, its API, its workers and its relay: all that have the name in their environment."""
    mark = f"JOBBOARD_SERVICE={service}\0".encode()
    return [
        int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if has(path, mark)
    ]


def has(path: Path, mark: bytes) -> bool:
    try:
        return mark in path.read_bytes()
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], missing: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {missing}"
        time.sleep(0.05)

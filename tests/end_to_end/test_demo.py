"""The demo, small, on the test run's services: the main job from end to end, a worker killed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bus import Settings

ROOT = Path(__file__).parents[2]
PROMISED = {
    "broker", "broker_version", "mongo_version", "commands", "refused", "events", "documents",
    "wrong_documents", "duplicates", "worker_kills", "p50_ms", "p99_ms", "commands_per_second",
    "seconds",
}  # fmt: skip


def demo(settings: Settings, *options: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
    }
    return subprocess.run(
        [ROOT / "bin" / "demo", "--commands", "300", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
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
    assert report["documents"] > 300
    assert report["p50_ms"] <= report["p99_ms"]


def test_the_demo_reports_to_people(settings: Settings) -> None:
    done = demo(settings)
    assert done.returncode == 0, done.stderr
    assert "Nothing is wrong: every document equals the fold of the log." in done.stdout
    assert "job_board: what people browse" in done.stdout


def test_without_rabbitmq_the_demo_runs_in_one_process_and_says_so(settings: Settings) -> None:
    done = demo(settings, "--json", "--broker", "memory")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["broker"], report["wrong_documents"]) == ("memory", 0)
    assert report["worker_kills"] == 0
    assert "without RabbitMQ" in done.stderr

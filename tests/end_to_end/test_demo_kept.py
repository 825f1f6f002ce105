"""`bin/demo --keep`: what it prints is there, what ends is told, and what it prints ends all."""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity
from pymongo import MongoClient

from tools.demo import stopping
from tools.demo.staying import KeptDemo
from tools.services.ports import wait_until

ROOT = Path(__file__).parents[2]
PROCESSES = {"api", "worker-1", "worker-2", "relay"}

Done = subprocess.CompletedProcess[str]


def command(folder: Path, *options: str) -> list[str]:
    """What `bin/demo` runs, with what is kept in a folder of the test's."""
    return [sys.executable, "-m", "tools.demo", "--folder", str(folder), *options]


def demo(folder: Path, *options: str) -> Done:
    return subprocess.run(
        command(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Of what is kept; whatever the test leaves running ends with it."""
    yield tmp_path
    if kept := KeptDemo.read(tmp_path):
        stopping.stop(tmp_path, kept)


def answered(url: str) -> tuple[int, str]:
    """Status and body; without the proxy that the environment may name."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as one:
        return one.status, one.read().decode()


def expected(processes: Mapping[str, Any]) -> set[str]:
    """Where all say how they are; all but the API have metrics there, too."""
    health = {name: processes[name]["health"] for name in PROCESSES}
    metrics = {health[name].replace("/readyz", "/metrics") for name in PROCESSES - {"api"}}
    return metrics | {*health.values()}


def printed_urls(text: str) -> list[str]:
    return re.findall(r"http://127\.0\.0\.1:\d+/[^\s')]*", text)


async def queue_exists(amqp_url: str, name: str) -> bool:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True


def test_what_is_kept_answers_where_it_says_and_ends_by_the_command_that_it_prints(
    folder: Path, amqp_url: str, mongo_url: str
) -> None:
    done = demo(folder, "--keep", "--commands", "50", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["wrong_documents"], report["worker_kills"]) == (0, 1)
    kept = KeptDemo.read(folder)
    assert kept
    processes = {one["name"]: one for one in report["kept"]["processes"]}
    assert processes.keys() == PROCESSES
    assert kept.running.keys() == PROCESSES
    assert json.loads(answered(shlex.split(report["kept"]["api"])[1])[1])["items"]

    again = demo(folder, "--keep")
    assert again.returncode == 0, again.stderr
    assert "nothing was started" in again.stderr
    urls = printed_urls(again.stdout)
    assert {answered(url)[0] for url in urls} == {200}
    assert {report["kept"]["page"], *expected(processes)} <= set(urls)
    for name in PROCESSES:
        log = Path(processes[name]["log"])
        assert str(log) in again.stdout
        assert log.exists()
    assert kept.running.keys() == PROCESSES  # the very same ones

    os.kill(processes["worker-2"]["pid"], signal.SIGKILL)
    assert wait_until(lambda: kept.ended == ["worker-2"], 30)
    told = demo(folder, "--keep")
    assert told.returncode == 1
    assert re.search(r"worker-2 +ended", told.stdout)

    line = next(one for one in told.stdout.splitlines() if one.startswith("How to stop it: "))
    program, *options = shlex.split(line.partition(": ")[2])
    assert (ROOT / program).exists()
    assert asyncio.run(queue_exists(amqp_url, f"{kept.service}.commands"))
    stopped = demo(folder, *options)
    assert stopped.returncode == 0, stopped.stderr
    assert "Ended before, by themselves or by others: worker-2" in stopped.stderr
    assert not kept.running
    assert not asyncio.run(queue_exists(amqp_url, f"{kept.service}.commands"))
    with MongoClient[dict[str, Any]](mongo_url) as client:
        assert kept.database not in client.list_database_names()
    assert not Path(kept.logs).exists()
    assert "No demo is kept" in demo(folder, "--stop").stderr


def test_a_demo_that_was_killed_itself_is_stopped_by_the_same_command(folder: Path) -> None:
    with subprocess.Popen(command(folder, "--keep"), cwd=ROOT, stderr=subprocess.DEVNULL) as run:
        try:
            assert wait_until(lambda: running(folder) == PROCESSES, 120)
        finally:
            run.kill()
    kept = KeptDemo.read(folder)
    assert kept
    assert kept.running.keys() == PROCESSES
    stopped = demo(folder, "--stop")
    assert stopped.returncode == 0, stopped.stderr
    assert not kept.running


def running(folder: Path) -> set[str]:
    kept = KeptDemo.read(folder)
    return {*kept.running} if kept else set()

"""Runs both sides alternately, fresh processes and names each time, and compares the medians."""

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import MongoClient

HERE = Path(__file__).parent
GIVE_UP_AFTER = 90.0


class Side(NamedTuple):
    """One of those compared, and how many commands give it a few seconds' work."""

    name: str
    python: Path
    script: Path
    commands: int


class Round(NamedTuple):
    """One measurement: commands per second until the last is visible, and client CPU for each."""

    per_second: float
    cpu_ms: float


def measure(amqp_url: str, mongo_url: str, peers: Path, *, quick: bool) -> dict[str, Any]:
    """Medians by side and concurrency, and their ratios."""
    factor, rounds = (1, 3) if quick else (2, 5)
    ours = Side("doubledecker", Path(sys.executable), HERE / "ours.py", 6000 * factor)
    peer = Side("faststream", peers, HERE / "faststream_style.py", 3000 * factor)
    mongo: MongoClient[dict[str, Any]] = MongoClient(mongo_url)
    environment = {**os.environ, "BUS_AMQP_URL": amqp_url, "BUS_MONGO_URL": mongo_url}
    rows = []
    for concurrent in [256] if quick else [64, 256]:
        results: dict[str, list[Round]] = {ours.name: [], peer.name: []}
        for number in range(rounds):
            for side in (ours, peer) if number % 2 == 0 else (peer, ours):
                results[side.name].append(run_once(side, concurrent, environment, mongo))
                progress(side, concurrent, number + 1, rounds, results[side.name][-1])
        rows.append(row(concurrent, results))
    mongo_version = mongo.server_info()["version"]
    mongo.close()
    return {
        "benchmark": "end_to_end",
        "ratio_to_faststream": min(one["ratio_to_faststream"] for one in rows),
        "rows": rows,
        "rounds": rounds,
        "commands": {ours.name: ours.commands, peer.name: peer.commands},
        "versions": {
            "python": sys.version.split()[0],
            "aio-pika": version("aio-pika"),
            "motor": version("motor"),
            "pymongo": version("pymongo"),
            "faststream": (HERE.parent / "peers.txt").read_text().split("==")[1].split()[0],
            "mongodb": mongo_version,
        },
    }


def row(concurrent: int, results: dict[str, list[Round]]) -> dict[str, Any]:
    """One concurrency: medians of both, ratio of medians, and the ratios round by round."""
    rate = {n: statistics.median(r.per_second for r in found) for n, found in results.items()}
    cpu = {n: statistics.median(r.cpu_ms for r in found) for n, found in results.items()}
    pairs = zip(results["doubledecker"], results["faststream"], strict=True)
    return {
        "concurrent": concurrent,
        "per_second": {name: round(value, 1) for name, value in rate.items()},
        "client_cpu_ms_per_command": {name: round(value, 3) for name, value in cpu.items()},
        "ratio_to_faststream": round(rate["doubledecker"] / rate["faststream"], 2),
        "ratios_by_round": [round(ours.per_second / peer.per_second, 2) for ours, peer in pairs],
    }


def run_once(
    side: Side, concurrent: int, environment: dict[str, str], mongo: MongoClient[dict[str, Any]]
) -> Round:
    """Starts a worker, then a driver; ends when every document is visible."""
    service = f"bench_{uuid.uuid4().hex[:8]}"
    before = cpu_seconds()
    command = [side.python, side.script]
    places = {"env": {**environment, "PYTHONPATH": str(HERE.parents[1])}, "text": True}
    worker = subprocess.Popen([*command, "worker", service], stdout=subprocess.PIPE, **places)  # type: ignore[call-overload]
    try:
        expect_line(worker)
        arguments = ["driver", service, str(side.commands), str(concurrent)]
        driver = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, **places)  # type: ignore[call-overload]
        start = float(expect_line(driver))
        seconds = wait_visible(mongo[service]["views"], side, driver) - start
        if driver.wait(timeout=60):
            raise SystemExit(f"{side.name}: the driver failed with status {driver.returncode}")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=60)
        worker.stdout.close()
    driver.stdout.close()
    mongo.drop_database(service)
    return Round(side.commands / seconds, (cpu_seconds() - before) * 1000 / side.commands)


def expect_line(process: subprocess.Popen[str]) -> str:
    """The first line that a process prints: it is ready then."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args!r} ended before it was ready")
    return line


def wait_visible(collection: Any, side: Side, driver: subprocess.Popen[str]) -> float:
    """The time when the last document was seen."""
    deadline = time.time() + GIVE_UP_AFTER
    while time.time() < deadline:
        if collection.estimated_document_count() >= side.commands:
            return time.time()
        if driver.poll():
            break
        time.sleep(0.02)
    seen = collection.estimated_document_count()
    raise SystemExit(f"{side.name}: {seen} of {side.commands} documents became visible")


def cpu_seconds() -> float:
    """CPU of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def progress(side: Side, concurrent: int, number: int, rounds: int, result: Round) -> None:
    print(
        f"  {concurrent:>4} concurrent, round {number}/{rounds}: {side.name:<13}"
        f"{result.per_second:>8,.0f} commands/s",
        file=sys.stderr,
    )


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = ["execute → stored → published → projected in another process (medians)", ""]
    lines.append(f"{'concurrent':>10} {'doubledecker':>14} {'faststream':>12} {'ratio':>7}")
    for one in result["rows"]:
        rate = one["per_second"]
        lines.append(
            f"{one['concurrent']:>10} {rate['doubledecker']:>12,.0f}/s "
            f"{rate['faststream']:>10,.0f}/s {one['ratio_to_faststream']:>6.1f}x"
        )
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return "\n".join([*lines, "", versions])

"""Runs the points of all lines, round by round, and tells how flat those are that shall be."""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import MongoClient

from bench.growth.runs import Runs
from bench.growth.variables import LINES, QUICK, USUAL, Line
from bench.services import Servers
from bench.side import Metrics

ROOT = Path(__file__).parents[2]
FLAT = "events in the log"
FLAT_WITHIN = 0.2
CACHE = "4G"
"""What a server of ours, else small, may keep in memory: a database whose working set does not fit
is measured by its disk."""
COLUMNS = {
    "per_second": "/s",
    "execute_ms": "ms execute",
    "visible_ms": "ms visible",
    "client_us": "µs client",
    "worker_us": "µs worker",
    "rabbitmq_us": "µs RabbitMQ",
    "mongodb_us": "µs MongoDB",
    "total_us": "µs in all",
    "memory_mb": "MB worker",
    "busiest_worker": "of it by the busiest",
}


class Growth(NamedTuple):
    """Stands where a `Comparison` does; each line is compared with its own beginning."""

    lines: Sequence[Line] = LINES
    rounds: int = 2

    def measure(self, servers: Servers, peers: Path, *, quick: bool, rounds: int | None) -> Any:
        """Medians for each point, and the ratios of the lines that shall be flat."""
        rounds = rounds or (1 if quick else self.rounds)
        usual = {**USUAL, **QUICK} if quick else USUAL
        lines = [
            line._replace(values=[one for one in line.values if one.quick or not quick])
            for line in self.lines
        ]
        points = [(line, number) for line in lines for number in range(len(line.values))]
        found: dict[tuple[str, str, int], list[Metrics]] = defaultdict(list)
        if servers.pids:
            _enlarge_cache(servers.mongo_url)
        with ExitStack() as stack:
            runs = Runs(servers, stack)
            for turn in range(rounds):
                for line, number in points if turn % 2 == 0 else reversed(points):
                    if turn and line.once:
                        continue
                    value = line.values[number]
                    metrics = runs.once(line.script, {**usual, **value.arguments}, turn)
                    found[line.variable, line.name, number].append(metrics)
                    _say(line, number, turn, rounds, metrics)
        rows = [
            _row(line, [found[line.variable, line.name, n] for n in range(len(line.values))])
            for line in lines
        ]
        flat = [_flatness(row) for row in rows if row["variable"] == FLAT]
        met = all(one["met"] for one in flat)
        return {"benchmark": "growth", "rounds": rounds, "lines": rows, "flat": flat, "met": met}

    def report(self, result: Mapping[str, Any]) -> str:
        """The result for people."""
        told = [f"growth: what a command costs, as things grow (medians of {result['rounds']})"]
        for line in result["lines"]:
            told += ["", f"  {line['variable']} ({line['name']})"]
            for point in line["points"]:
                shown = (f"{_shown(value)} {COLUMNS[name]}" for name, value in _told(point))
                told.append(f"    {point['label']:<18} {'  '.join(f'{one:>17}' for one in shown)}")
        for one in result["flat"]:
            mark = "met" if one["met"] else "MISSED"
            told += [
                "",
                f"  {one['variable']} ({one['name']}), most against fewest: throughput "
                f"{one['throughput']:.2f}, until visible {one['latency']:.2f}   goal: within "
                f"{FLAT_WITHIN:.0%}: {mark}",
            ]
        return "\n".join(told)

    def plot(self, result: Mapping[str, Any], folder: Path, peers: Path) -> Path:
        """Draws the result as `growth.png`, with the peers' Python, which has the means."""
        picture = folder / "growth.png"
        command = [peers, ROOT / "bench" / "growth" / "plot.py", picture]
        subprocess.run(command, input=json.dumps(result), text=True, check=True)
        return picture


def _row(line: Line, found: Iterable[Sequence[Metrics]]) -> dict[str, Any]:
    points = [
        {"label": value.label, "at": value.at, "metrics": _medians(metrics)}
        for value, metrics in zip(line.values, found, strict=True)
    ]
    return {"variable": line.variable, "name": line.name, "points": points}


def _medians(runs: Sequence[Metrics]) -> Metrics:
    return {name: float(f"{statistics.median(one[name] for one in runs):.4g}") for name in runs[0]}


def _flatness(row: Mapping[str, Any]) -> dict[str, Any]:
    """The last point against the first."""
    first, last = row["points"][0]["metrics"], row["points"][-1]["metrics"]
    throughput = last["per_second"] / first["per_second"]
    latency = last["visible_ms"] / first["visible_ms"]
    return {
        "variable": row["variable"],
        "name": row["name"],
        "throughput": round(throughput, 3),
        "latency": round(latency, 3),
        "met": throughput >= 1 - FLAT_WITHIN and latency <= 1 + FLAT_WITHIN,
    }


def _told(point: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, point["metrics"][name]) for name in COLUMNS if name in point["metrics"]]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _enlarge_cache(mongo_url: str) -> None:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={CACHE}")


def _say(line: Line, number: int, turn: int, rounds: int, metrics: Metrics) -> None:
    print(
        f"  growth, {line.variable} ({line.name}), round {turn + 1}/{rounds}: "
        f"{line.values[number].label:<16} {metrics['per_second']:>8,.0f} /s",
        file=sys.stderr,
        flush=True,
    )

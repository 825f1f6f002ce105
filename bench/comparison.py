"""Compares ours with peers: fresh processes, alternately in the same run, medians and ratios.

Runs in the peers' environment too, which knows no servers.
"""

import json
import os
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pymongo import MongoClient

from bench.side import Arguments, Metrics

if TYPE_CHECKING:
    from bench.services import Servers

ROOT = Path(__file__).parents[1]
GIVE_UP_AFTER = 600.0


class Case(NamedTuple):
    """One row: what the sides are told to do; a quick run overrides some of it."""

    label: str
    arguments: Arguments
    quick: Arguments | None = None


class Side(NamedTuple):
    """One of those compared: a script, and whose Python runs it.

    `share` is how much of a case's `count` it gets: a slow peer needs no hour. `cases` are those
    that it takes part in, all where none is named.
    """

    name: str
    script: str
    peer: bool = False
    share: float = 1.0
    cases: Sequence[str] = ()

    def takes_part_in(self, case: Case) -> bool:
        return not self.cases or case.label in self.cases


class Goal(NamedTuple):
    """What ours shall reach against a side, as a ratio of medians: ours through theirs.

    It is about the comparison's metric, unless it names one.
    """

    against: str
    at_least: float | None = None
    at_most: float | None = None
    cases: Sequence[str] = ()
    ours: str = "doubledecker"
    metric: str = ""

    def applies_to(self, case: Case) -> bool:
        return not self.cases or case.label in self.cases

    def met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (
            self.at_most is None or ratio <= self.at_most
        )

    @property
    def text(self) -> str:
        return f">= {self.at_least}" if self.at_most is None else f"<= {self.at_most}"


class Comparison(NamedTuple):
    """One question of the benchmarks, and who answers it.

    `metric` is what the goals are about: "per_second", say, or "median_ms". `sql` are the SQL
    servers on which each side finds a new database, `java` the other servers that it needs: there
    a first round is not counted.
    """

    name: str
    question: str
    sides: Sequence[Side]
    cases: Sequence[Case]
    goals: Sequence[Goal]
    metric: str = "per_second"
    rounds: int = 5
    quick_rounds: int = 3
    also: Sequence[str] = ("client_cpu_ms", "server_cpu_ms", "memory_mb")
    sql: Sequence[str] = ()
    java: Sequence[str] = ()

    def measure(
        self,
        servers: "Servers",
        peers: Path,
        *,
        quick: bool,
        rounds: int | None,
        count: int | None = None,
        only: str = "",
    ) -> Any:
        """Medians by case and side, the ratios, and which goals they meet. `count` is instead of
        that of each case, and `only` chooses those cases in whose label it is."""
        rounds = rounds or (self.quick_rounds if quick else self.rounds)
        rows = []
        for case in (case for case in self.cases if only in case.label):
            if quick and case.quick is not None:
                case = case._replace(arguments={**case.arguments, **case.quick})
            if count:
                case = case._replace(arguments={**case.arguments, "count": count})
            sides = [side for side in self.sides if side.takes_part_in(case)]
            found: dict[str, list[Metrics]] = {side.name: [] for side in sides}
            for side in sides if self.java else ():
                _once(self, side, case, servers, peers)  # a virtual machine is slow at first
            for number in range(rounds):
                for side in sides if number % 2 == 0 else reversed(sides):
                    found[side.name].append(_once(self, side, case, servers, peers))
                    _say(self, side, case, number + 1, rounds, found[side.name][-1])
            rows.append(self._row(case, found))
        return {
            "benchmark": self.name,
            "question": self.question,
            "metric": self.metric,
            "rounds": rounds,
            "rows": rows,
            "met": all(goal["met"] for row in rows for goal in row["goals"]),
            **_lowest_ratios(rows),
        }

    def _row(self, case: Case, found: Mapping[str, Sequence[Metrics]]) -> dict[str, Any]:
        sides = {name: _medians(runs) for name, runs in found.items()}
        return {
            "case": case.label,
            "sides": sides,
            "goals": [self._judged(goal, found) for goal in self.goals if goal.applies_to(case)],
        }

    def _judged(self, goal: Goal, found: Mapping[str, Sequence[Metrics]]) -> dict[str, Any]:
        metric = goal.metric or self.metric
        ours = [one[metric] for one in found[goal.ours]]
        theirs = [one[metric] for one in found[goal.against]]
        ratio = statistics.median(ours) / statistics.median(theirs)
        return {
            "ours": goal.ours,
            "against": goal.against,
            "metric": metric,
            "ratio": round(ratio, 3),
            "ratios_by_round": [round(a / b, 2) for a, b in zip(ours, theirs, strict=True)],
            "goal": goal.text,
            "met": goal.met(ratio),
        }

    def report(self, result: Mapping[str, Any]) -> str:
        """The result for people."""
        lines = [f"{self.name}: {self.question} (medians of {result['rounds']})"]
        columns = (self.metric, *self.also)
        for row in result["rows"]:
            lines += ["", f"  {row['case']}"]
            for name, metrics in row["sides"].items():
                told = [f"{_shown(metrics[c])} {_unit(c)}" for c in columns if c in metrics]
                lines.append(f"    {name:<28} {'  '.join(f'{one:>22}' for one in told)}")
            for goal in row["goals"]:
                mark = "met" if goal["met"] else "MISSED"
                ours = "" if goal["ours"] == "doubledecker" else f"{goal['ours']} "
                about = "" if goal["metric"] == self.metric else f", {_unit(goal['metric'])}"
                rounds = goal["ratios_by_round"]
                lines.append(
                    f"    {ours}against {goal['against']}{about}: {goal['ratio']:.2f} "
                    f"({min(rounds):.2f} to {max(rounds):.2f})   goal {goal['goal']}: {mark}"
                )
        return "\n".join(lines)


def _lowest_ratios(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By side the lowest ratio that ours reached: `ratio_to_faststream`, say."""
    ratios: dict[str, float] = {}
    for goal in [goal for row in rows for goal in row["goals"] if goal["ours"] == "doubledecker"]:
        name = f"ratio_to_{goal['against'].replace(' ', '_')}"
        ratios[name] = min(goal["ratio"], ratios.get(name, goal["ratio"]))
    return ratios


def _once(
    comparison: Comparison, side: Side, case: Case, servers: "Servers", peers: Path
) -> Metrics:
    """One measurement in a fresh process, with databases and queues of its own."""
    service = f"bench_{uuid.uuid4().hex[:8]}"
    arguments = {**case.arguments, "service": service}
    arguments["count"] = max(int(arguments.get("count", 1) * side.share), 1)
    script = ROOT / "bench" / comparison.name / side.script
    python = peers if side.peer else Path(sys.executable)
    environment = {**os.environ, **servers.environment, "PYTHONPATH": str(ROOT)}
    before = servers.cpu_seconds()
    try:
        with servers.databases(comparison.sql, service) as urls:
            done = _run([python, script, json.dumps(arguments)], {**environment, **urls})
    finally:
        _clean(servers, service)
    lines, status, used = done
    if status or not lines:
        raise SystemExit(f"{side.name}: {script} failed with status {status}")
    metrics: Metrics = json.loads(lines[-1])
    counted = metrics.pop("count", arguments["count"])
    server = {
        f"{name}_cpu_ms": (after - before[name]) * 1000 / counted
        for name, after in servers.cpu_seconds().items()
    }
    if server:
        server["server_cpu_ms"] = sum(server.values())
    return {
        "client_cpu_ms": (used.ru_utime + used.ru_stime) * 1000 / counted,
        **server,
        **metrics,
    }


def _run(command: Sequence[Any], environment: Mapping[str, str]) -> tuple[list[str], int, Any]:
    """What it printed, its status, and what it used."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    try:
        with process.stdout:
            lines = process.stdout.read().splitlines()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return lines, process.returncode, used


def _clean(servers: "Servers", service: str) -> None:
    if servers.mongo_url:
        with MongoClient[dict[str, Any]](servers.mongo_url) as client:
            client.drop_database(service)


def _medians(runs: Iterable[Metrics]) -> Metrics:
    runs = list(runs)
    return {key: _rounded(statistics.median(one[key] for one in runs)) for key in runs[0]}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _unit(metric: str) -> str:
    return {"per_second": "/s", "microseconds": "µs"}.get(metric, metric.replace("_", " "))


def _say(
    comparison: Comparison, side: Side, case: Case, number: int, rounds: int, found: Metrics
) -> None:
    metric = next(m for m in (comparison.metric, *comparison.also) if m in found)
    print(
        f"  {comparison.name}, {case.label}, round {number}/{rounds}: {side.name:<28}"
        f"{_shown(found[metric]):>10} {_unit(metric)}",
        file=sys.stderr,
        flush=True,
    )

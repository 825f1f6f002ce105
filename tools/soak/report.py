"""The report: the ledger's totals, for programs and for people."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tools.soak.account import Account
from tools.soak.checker import Verdict
from tools.soak.plan import Plan

MOST_SHOWN = 20
CALL_WITHIN = 45.0
"""No call of `execute` may last longer: reading, storing and settling a doubt, each bounded."""


class Recovery(NamedTuple):
    """How long after the end of a fault its effects were over, and how long was expected."""

    kind: str
    seconds: float
    within: float


class Report(NamedTuple):
    """All that there is to tell of one soak."""

    plan: Plan
    versions: dict[str, str]
    account: Account
    verdict: Verdict
    recoveries: Sequence[Recovery]
    failed_starts: int
    broken_off: str
    unsettled: Sequence[str]
    leaked: Sequence[str]
    observed: int
    minutes: float
    folder: Path
    repeats: int

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, in words."""
        found = [*self.verdict.problems, *self.unsettled, *self.leaked]
        if self.broken_off:
            found.insert(0, self.broken_off)
        if self.account.slowest > CALL_WITHIN:
            found.append(
                f"a call lasted {self.account.slowest:.1f} s; the limit is {CALL_WITHIN:g}"
            )
        return found

    def figures(self) -> dict[str, Any]:
        """The figures by name, for programs."""
        account, verdict = self.account, self.verdict
        return {
            "commands": len(account.intended),
            "events": verdict.events,
            "faults": dict(Counter(one.kind for one in self.recoveries)),
            "lost": len(verdict.lost),
            "applied_twice": len(verdict.twice),
            "out_of_order": len(verdict.out_of_order),
            "untrue_words": len(verdict.untrue),
            "slowest_recovery_s": round(max((r.seconds for r in self.recoveries), default=0), 2),
            "seed": self.plan.seed,
            "wrong_documents": verdict.wrong_documents,
            "documents": verdict.documents,
            "recoveries": recoveries(self.recoveries),
            "accepted": len(account.accepted),
            "refused": dict(account.refusals),
            "unknown_outcomes": account.unknown.total(),
            "unsettled": len(self.unsettled),
            "leaked": len(self.leaked),
            "failed_starts": self.failed_starts,
            "slowest_call_s": round(account.slowest, 2),
            "changes_observed": self.observed,
            "minutes": round(self.minutes, 2),
            "events_per_second": round(verdict.events / max(self.minutes * 60, 1e-6)),
            "log": self.plan.log,
            "sinks": list(self.plan.sinks),
            "repeated_records": self.repeats,
            "nodes": self.plan.nodes,
            "members": self.plan.members,
            "versions": self.versions,
            "problems": len(self.problems),
        }


def recoveries(of: Sequence[Recovery]) -> dict[str, Any]:
    """By kind: how many, median and worst in seconds, and how many took longer than expected."""
    by_kind: dict[str, list[Recovery]] = defaultdict(list)
    for one in of:
        by_kind[one.kind].append(one)
    return {
        kind: {
            "count": len(ones),
            "median_s": round(median(one.seconds for one in ones), 2),
            "worst_s": round(max(one.seconds for one in ones), 2),
            "expected_s": ones[0].within,
            "later": sum(one.seconds > one.within for one in ones),
        }
        for kind, ones in sorted(by_kind.items())
    }


def print_json(report: Report) -> None:
    print(json.dumps(report.figures()))


def print_report(report: Report, console: Console) -> None:
    """The report for people."""
    figures = report.figures()
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in figures.items():
        if name not in ("recoveries", "faults", "refused", "versions", "sinks"):
            table.add_row(name.replace("_", " "), value if name == "log" else f"{value:,}")
    console.print(table)
    console.print(_recovery_table(figures["recoveries"]))
    for problem in report.problems[:MOST_SHOWN]:
        console.print(f"  {problem}", markup=False, highlight=False, style="red")
    if report.problems:
        console.print(
            f"{len(report.problems)} things are wrong. Seed {report.plan.seed} repeats it; ledger "
            f"and logs are in {report.folder}",
            highlight=False,
            style="bold red",
        )
    else:
        console.print(
            "Nothing lost, nothing twice, nothing out of order, no word untrue.", style="green"
        )


def _recovery_table(by_kind: dict[str, Any]) -> Table:
    table = Table("fault", "times", "median s", "worst s", "expected s", "later", box=None)
    for kind, one in by_kind.items():
        table.add_row(kind, *(f"{value:,}" for value in one.values()))
    return table

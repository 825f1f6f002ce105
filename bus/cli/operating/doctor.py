"""`bus doctor`: which promises hold on what a service stands on, and what to do where not. Only
prints; `bus.operate.doctor` asks.

Exit status: 0 nothing above a warning, 1 an error (or, with --strict, a warning), 2 wrong usage.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer

from bus.cli.loading import load
from bus.cli.operating.topology import ConsumerTimeout
from bus.cli.running import Json, Target, guarded, loop_factory
from bus.cli.tables import cell, print_json
from bus.observe.health import Finding
from bus.operate.doctor.doctor import PARTS, Doctor
from bus.settings import Settings

MARKS = {"ok": " ", "warning": "!", "error": "x"}


def doctor(
    target: Target,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART", help=f"a part to examine ({', '.join(PARTS)}); all by default"
        ),
    ] = None,
    consumer_timeout: ConsumerTimeout = None,
    strict: Annotated[bool, typer.Option("--strict", help="1 also for warnings")] = False,
    as_json: Json = False,
) -> None:
    """Says which promises hold on what the service stands on, and what to do where not.

    It changes nothing, and goes on where something is away. The exit status is 1 if there is an
    error, 0 if there are warnings at most.
    """
    found = guarded(lambda: _examined(target, only or (), consumer_timeout))
    if as_json:
        print_json({"status": _worst(found), "findings": [finding._asdict() for finding in found]})
    else:
        _print(found)
    raise typer.Exit(1 if _worst(found) == "error" or (strict and _worst(found) != "ok") else 0)


def _examined(target: str, only: Sequence[str], timeout: float | None) -> list[Finding]:
    doctor = Doctor(load(target, Settings))
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(
                doctor.examine(
                    only,
                    consumer_timeout=timeout,
                    begins=lambda part: _show(f"{part} ..."),
                )
            )
    finally:
        _show("")


def _show(words: str) -> None:
    """Shows on a terminal what is being asked, in the place of what was."""
    if sys.stderr.isatty():
        print(f"\r{words:<20}", end="\r", file=sys.stderr, flush=True)


def _worst(found: Sequence[Finding]) -> str:
    levels = {finding.level for finding in found}
    return next((level for level in ("error", "warning") if level in levels), "ok")


def _print(found: Sequence[Finding]) -> None:
    for part, findings in groupby(found, lambda finding: finding.part):
        print(part)
        for finding in findings:
            _print_finding(finding)
    print(_summary(found))


def _print_finding(finding: Finding) -> None:
    promise = f" ({finding.promise} does not hold in full)" if finding.promise else ""
    print(f"  {MARKS[finding.level]} {cell(finding.what)}{promise}")
    if finding.remedy:
        print(f"      {cell(finding.remedy)}")


def _summary(found: Sequence[Finding]) -> str:
    counted = Counter(finding.level for finding in found)
    return f"Doctor: errors: {counted['error']}, warnings: {counted['warning']}."

"""`bus aggregates`: looks after the states of aggregates that are stored by their state. Only
prints; `bus.operate` does the work.

Exit status: 0 done; 1 something differs, or is not complete; 2 wrong usage.
"""

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bus.cli.running import Json, Target, on_open_bus
from bus.cli.tables import cell, print_json, print_progress
from bus.operate.aggregates import Aggregates, Report, StateDifference

app = typer.Typer(
    name="aggregates",
    help='Looks after the states of aggregates that are stored by them (stored="state").',
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="the aggregate's class, or its category")]


@app.command()
def check(target: Target, name: Name, as_json: Json = False) -> None:
    """Compares each state with what the events of its stream make; changes nothing.

    Exits with 1 if one differs, or if some may be missing.
    """
    found = on_open_bus(target, lambda bus: Aggregates(bus).check(name, report=_progress()))
    if as_json:
        print_json({**found._asdict(), "differences": list(map(_facts, found.differences))})
    else:
        _print(found.differences)
        print(f"{found.aggregate}: {found.streams} compared, {found.differing} differ")
    if not found.complete:
        print(_incomplete(found.aggregate), file=sys.stderr)
    if not found.is_right:
        raise typer.Exit(1)


@app.command()
def store(target: Target, name: Name, as_json: Json = False) -> None:
    """Stores the states that are missing or differ, while commands come in.

    First see that every process runs a release with stored="state". Cut short, it goes on where it
    was. Exits with 1 if aggregates cannot be found by their fields yet; it says why.
    """
    found = on_open_bus(target, lambda bus: Aggregates(bus).store(name, report=_progress()))
    if as_json:
        print_json({**found._asdict(), "differences": list(map(_facts, found.differences))})
    else:
        _print(found.differences)
        print(f"{found.aggregate}: {found.streams} gone through, {found.stored} stored")
    if found.behind:
        print(
            f"{found.behind} were written meanwhile without their states: a process of an older "
            f"release runs; run this again once none does",
            file=sys.stderr,
        )
    elif not (found.complete or found.differences):
        print(
            f"a process of a release that stores {found.aggregate} by its events began "
            f"meanwhile: run this again once none runs",
            file=sys.stderr,
        )
    if any(difference.kind in ("ahead", "strange") for difference in found.differences):
        print(
            "some states are of another log: `bus aggregates drop-states` removes them all, and "
            "then run this again; where a backup was restored, `bus events recover`",
            file=sys.stderr,
        )
    if not found.complete:
        raise typer.Exit(1)


@app.command("drop-states")
def drop_states(
    target: Target,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Drops all states of an aggregate; its events remain, and are read instead.

    Before a release without stored="state" runs again, or once it is not to be stored so any more.
    """
    if not yes:
        typer.confirm(f"Drop the states of {name}?", abort=True, err=True)
    on_open_bus(target, lambda bus: Aggregates(bus).drop_states(name))
    print(f"the states of {name} are gone")


def _progress() -> Report:
    began = time.monotonic()
    return lambda done, of: print_progress(done, of or 1, time.monotonic() - began)


def _incomplete(name: str) -> str:
    return (
        f"some {name} may have no state, so that they cannot be found by their fields: run "
        f"`bus aggregates store`"
    )


def _facts(found: StateDifference) -> dict[str, Any]:
    fields = {name: {"found": a, "expected": b} for name, (a, b) in found.fields.items()}
    return {**found._asdict(), "fields": fields}


def _print(differences: Sequence[StateDifference]) -> None:
    for found in differences:
        reason = f" ({cell(found.reason)})" if found.reason else ""
        print(f"{cell(found.stream)} at {found.version}: {found.kind}{reason}")
        for name, (here, expected) in found.fields.items():
            print(f"    {cell(name)}: {cell(here)}, to be {cell(expected)}")

"""`bus deadletters`: lists and repairs what was given up. Only prints; `bus.operate` does the work.

Exit status: 0 done, 1 something failed or nothing matched, 2 wrong usage.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic_core import from_json

from bus.cli.running import Json, Target, on_open_bus
from bus.cli.tables import cell, lines, print_json, print_progress, print_table
from bus.operate.deadletter_view import DeadLetter
from bus.operate.deadletters import DeadLetters, RepairResult

Result = TypeVar("Result")

app = typer.Typer(
    name="deadletters",
    help="Lists and repairs what was given up: dead letters and parked streams.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(help="as `list` shows it")]
Ids = Annotated[list[str] | None, typer.Argument(help="as `list` shows them")]
Group = Annotated[str, typer.Option(help="all of this group, as `groups` shows it")]
All = Annotated[bool, typer.Option("--all", help="all that there are")]


@app.command("list")
def list_(
    target: Target,
    group: Annotated[str, typer.Option(help="only of this group")] = "",
    queue: Annotated[str, typer.Option(help="only of this queue")] = "",
    message: Annotated[str, typer.Option(help="only messages of this name")] = "",
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 100,
    skip: Annotated[int, typer.Option(min=0, help="how many to pass over")] = 0,
    as_json: Json = False,
) -> None:
    """Lists dead letters and parked streams without their payloads, last seen first."""
    found = _with(
        target,
        lambda letters: letters.list(
            group=group, queue=queue, message=message, limit=limit, skip=skip
        ),
    )
    if as_json:
        print_json([_facts(letter) for letter in found])
        return
    heads = ("LAST SEEN", "KIND", "GROUP", "MESSAGE", "ERROR", "ATTEMPTS", "ID")
    print_table(
        heads,
        ((o.last_seen, o.kind, o.group, o.message, o.error, o.attempts, o.id) for o in found),
    )


@app.command()
def groups(target: Target, as_json: Json = False) -> None:
    """Lists groups of letters that failed alike: same message, handler, error and place."""
    found = _with(target, lambda letters: letters.groups())
    if as_json:
        print_json([group._asdict() for group in found])
        return
    heads = ("GROUP", "KIND", "COUNT", "LAST SEEN", "MESSAGE", "HANDLER", "ERROR", "REASON")
    print_table(
        heads,
        (
            (o.group, o.kind, o.count, o.last_seen, o.message, o.handler, o.error, o.reason)
            for o in found
        ),
    )


@app.command()
def show(target: Target, id: Id, as_json: Json = False) -> None:
    """Shows one in full: where it failed, its headers, and its payload."""
    found = _with(target, lambda letters: letters.show(id))
    facts = {**_facts(found), **_payload(found)}
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if value:
            print(f"{name}: {lines(value)}")


@app.command()
def retry(
    target: Target,
    ids: Ids = None,
    group: Group = "",
    all: All = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="how many a second at most")] = None,
    as_json: Json = False,
) -> None:
    """Sends them back to the handler that failed; they disappear once it succeeds."""
    _check_choice(ids, group, all)
    outcome = _with(
        target,
        lambda letters: letters.retry(
            *(ids or ()), group=group, all=all, rate=rate, report=print_progress
        ),
    )
    _end(outcome, "retried", as_json)


@app.command()
def edit(
    target: Target,
    id: Id,
    data: Annotated[str | None, typer.Option(help="the new data, as JSON")] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="a file with the new data")
    ] = None,
) -> None:
    """Replaces a message's data, checked against its class; opens $EDITOR without options."""
    if data is not None and file is not None:
        raise typer.BadParameter("give --data or --file, not both")
    if file is not None:
        data = file.read_text()
    if data is None:
        data = _from_editor(_with(target, lambda letters: letters.show(id)))
    new = _parsed(data)
    _with(target, lambda letters: letters.edit(id, new))
    print("edited; `retry` brings it back to its handler")


@app.command()
def discard(
    target: Target,
    ids: Ids = None,
    group: Group = "",
    all: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Removes dead letters for good; asks first if there may be several."""
    _check_choice(ids, group, all)
    if not yes and len(ids or ()) != 1:
        typer.confirm("Remove them for good?", abort=True, err=True)
    outcome = _with(
        target,
        lambda letters: letters.discard(*(ids or ()), group=group, all=all, report=print_progress),
    )
    _end(outcome, "discarded", as_json)


def _with(target: str, action: Callable[[DeadLetters], Awaitable[Result]]) -> Result:
    return on_open_bus(target, lambda bus: action(DeadLetters(bus)))


def _check_choice(ids: list[str] | None, group: str, all: bool) -> None:
    if bool(ids) + bool(group) + all != 1:
        raise typer.BadParameter("say which: give IDS, or --group, or --all")


def _end(outcome: RepairResult, done: str, as_json: bool) -> None:
    """Prints what was done and what was not; exits with 1 if any failed or none was done."""
    if as_json:
        print_json({done: outcome.done, "failed": outcome.failed})
    else:
        print(f"{done}: {len(outcome.done)}")
    for id, problem in outcome.failed.items():
        print(f"{cell(id)}: {cell(problem)}", file=sys.stderr)
    if not (outcome.done or outcome.failed):
        print("nothing matched; `groups` and `list` show what there is", file=sys.stderr)
    if outcome.failed or not outcome.done:
        raise typer.Exit(1)


def _facts(letter: DeadLetter) -> dict[str, Any]:
    """Returns all but the payload."""
    facts = letter._asdict()
    del facts["body"]
    return facts


def _payload(letter: DeadLetter) -> dict[str, Any]:
    """Returns the payload as JSON if it is that, otherwise as text."""
    try:
        return {"data": from_json(letter.body, allow_inf_nan=False)}
    except ValueError:
        return {"text": letter.body.decode(errors="backslashreplace")}


def _from_editor(letter: DeadLetter) -> str:
    """Returns a letter's data as changed in the user's editor; exits with 1 if it is unchanged."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise typer.BadParameter("give --data or --file, or set EDITOR")
    payload = _payload(letter)
    before = json.dumps(payload["data"], indent=2) if "data" in payload else payload["text"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.json")
        path.write_text(before)
        subprocess.run([*shlex.split(editor), str(path)], check=True)
        after = path.read_text()
    if after == before:
        print("nothing was changed", file=sys.stderr)
        raise typer.Exit(1)
    return after


EXAMPLE = """as in '{"amount": 5}'"""


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise typer.BadParameter(f"the data is not JSON: {error}; write it {EXAMPLE}") from None
    if not isinstance(data, dict):
        raise typer.BadParameter(
            f"the data must be a JSON object with the message's fields, {EXAMPLE}; this is a "
            f"{type(data).__name__}"
        )
    return data

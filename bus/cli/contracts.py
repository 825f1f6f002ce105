"""`bus contracts`: describes a service's messages, and finds changes that would break others.
Needs neither broker nor database.

Exit status: 0 done, 1 a change breaks somebody, 2 wrong usage.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bus.cli.loading import load, without_servers
from bus.cli.running import Json, Target, guarded
from bus.cli.tables import cell, print_json
from bus.describe.comparing import ContractFinding, breaks, compare_contracts
from bus.describe.contracts import contracts_of

STANDARD = Path("-")

app = typer.Typer(
    name="contracts",
    help="Describes messages as JSON Schema, and compares them with what they were.",
    no_args_is_help=True,
)


@app.command()
def export(
    target: Target,
    file: Annotated[
        Path, typer.Argument(dir_okay=False, help="to be committed; standard output by default")
    ] = STANDARD,
) -> None:
    """Writes the JSON Schema of every command, event and query of the service."""
    described = guarded(lambda: contracts_of(load(target, without_servers)))
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    if file == STANDARD:
        print(text, end="")
    else:
        file.write_text(text)


@app.command()
def check(
    target: Target,
    file: Annotated[Path, typer.Argument(help="what `export` wrote before; - is standard input")],
    owner: Annotated[
        list[Path] | None,
        typer.Option(help="what `export` wrote of a service that this one follows"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compares the code with an older description; exits with 1 if a change breaks somebody."""
    before, owners = _read(file), [_read(path) for path in owner or ()]
    found = guarded(
        lambda: compare_contracts(
            before, contracts_of(load(target, without_servers)), owners=owners
        )
    )
    if as_json:
        findings = [finding._asdict() for finding in found]
        print_json({"compatible": not breaks(found), "findings": findings})
    else:
        for finding in found:
            _print(finding)
    if breaks(found):
        raise typer.Exit(1)


def _read(file: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if file == STANDARD else file.read_text())
    except FileNotFoundError:
        raise typer.BadParameter(
            f"there is no file {file}; `bus contracts export` writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None


def _print(finding: ContractFinding) -> None:
    where = f"{cell(finding.message)}, {finding.concerns}"
    print(f"{finding.verdict}: {where}: {cell(finding.what)}")
    if finding.remedy:
        print(f"    {cell(finding.remedy)}")

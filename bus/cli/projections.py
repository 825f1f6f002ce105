"""`bus projections`: shows and rebuilds read collections. Only prints; `bus.operate` does the work.

Exit status: 0 done; 1 something is missing, impossible or not right; 2 wrong usage.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from bus.bus import Bus
from bus.cli.loading import load, without_servers
from bus.cli.running import Json, Target, guarded, on_open_bus
from bus.cli.tables import cell, print_json, print_progress, print_table
from bus.operate.projections import CollectionStatus, Declared, Projections
from bus.read.lag import Lag
from bus.rebuild.drift import Audited, Difference

Result = TypeVar("Result")

ASK_EVERY = 0.5
SAMPLE = 1000
SILENCE = 15.0

app = typer.Typer(
    name="projections",
    help="Looks at read collections, and has them built anew.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="the projection")]
Names = Annotated[list[str] | None, typer.Argument(help="projections; all by default")]
HEADS = (
    "PROJECTION",
    "COLLECTION",
    "VERSION",
    "STATE",
    "BUILT",
    "WAITING",
    "BEHIND",
    "PARKED",
    "SWEPT",
)


@app.command("list")
def list_(target: Target, as_json: Json = False) -> None:
    """Lists the projections as declared; asks neither broker nor database."""
    declared = guarded(lambda: Projections(load(target, without_servers)).declared())
    if as_json:
        print_json([projection._asdict() for projection in declared])
        return
    heads = ("PROJECTION", "VERSION", "OF", "PARTITIONS", "VERSIONS IN", "EVENTS")
    print_table(heads, map(_declared, declared))


@app.command()
def status(target: Target, names: Names = None, as_json: Json = False) -> None:
    """Shows each collection of a projection: which one readers read, how far a new one is."""
    found = _with(target, lambda projections: projections.status(*(names or ())))
    if as_json:
        print_json([_facts(status) for status in found])
        return
    print_table(HEADS, map(_row, found))
    for stuck in (stuck for status in found for stuck in status.stuck):
        print(f"parked: {cell(stuck)}; `bus deadletters show` tells more")
    for one in (one for one in found if one.away):
        print(f"away: {one.collection}: {cell(one.away)}")


@app.command()
def rebuild(
    target: Target,
    name: Name,
    wait: Annotated[bool, typer.Option(help="until readers have moved to it")] = True,
    as_json: Json = False,
) -> None:
    """Rebuilds a projection's collection from the log, while readers keep reading the old one.

    Workers do it; this command starts it and shows how far it is.
    """
    collection = _with(target, lambda projections: _rebuilt(projections, name, wait=wait))
    if as_json:
        print_json({"collection": collection, "read": wait})
    else:
        print(f"{collection} is read from now on" if wait else f"{collection} is being built")


@app.command()
def refold(
    target: Target,
    name: Name,
    stream: Annotated[list[str] | None, typer.Option(help="a stream, as job-0192")] = None,
    document: Annotated[
        list[str] | None, typer.Option(help="a document's key (of several columns: a JSON list)")
    ] = None,
    matching: Annotated[str, typer.Option(help="streams like this: job-2024*")] = "",
    since: Annotated[
        datetime | None, typer.Option(help="streams with events since then (UTC)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rebuilds a part of what readers read, in place: some streams' documents, or some documents.

    Prints what differed from the log. Exits with 1 if something could not be repaired.
    """
    at = since.replace(tzinfo=since.tzinfo or UTC) if since else None
    _report(
        _with(
            target,
            lambda projections: projections.refold(
                name,
                streams=stream or (),
                documents=document or (),
                matching=matching,
                since=at,
                report=_progress(),
            ),
        ),
        as_json,
    )


@app.command()
def audit(
    target: Target,
    name: Name,
    sample: Annotated[
        int, typer.Option(min=1, help="how many documents, chosen at random")
    ] = SAMPLE,
    all: Annotated[bool, typer.Option("--all", help="every document")] = False,
    repair: Annotated[bool, typer.Option(help="put right what differs")] = False,
    as_json: Json = False,
) -> None:
    """Folds the log again and compares: finds documents that differ, are missing or should not be.

    Exits with 1 if there are any that it did not repair.
    """
    _report(
        _with(
            target,
            lambda projections: projections.audit(
                name, sample=0 if all else sample, repair=repair, report=_progress()
            ),
        ),
        as_json,
    )


@app.command()
def rollback(target: Target, name: Name) -> None:
    """Moves readers back to the collection that they read before."""
    print(f"{_with(target, lambda projections: projections.rollback(name))} is read from now on")


@app.command()
def drop(
    target: Target,
    name: Name,
    collection: Annotated[str, typer.Argument(help="as `status` shows it")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Removes a collection that is not read, with its queues."""
    if not yes:
        typer.confirm(f"Remove {collection} for good?", abort=True, err=True)
    _with(target, lambda projections: projections.drop(name, collection))
    print(f"{collection} is gone")


@app.command()
def fetch(
    target: Target,
    category: Annotated[str, typer.Argument(help="a category of another service, as `job`")],
) -> None:
    """Asks another service for the history of a category again, or has its feed read from the start
    again; workers take it in."""
    done = on_open_bus(target, lambda bus: _fetched(bus, category))
    print(f"{done}; `status` and health tell how far it is")


def _with(target: str, action: Callable[[Projections], Awaitable[Result]]) -> Result:
    return on_open_bus(target, lambda bus: action(Projections(bus)))


async def _fetched(bus: Bus, category: str) -> str:
    owner = await Projections(bus).fetch(category)
    if feed := bus.runtime.foreign.feeds.get(category):
        return f"the {feed.name}, which brings {category} of {owner}, is read from its start again"
    return f"the history of {category} is asked of {owner}"


async def _rebuilt(projections: Projections, name: str, *, wait: bool) -> str:
    collection = await projections.rebuild(name)
    began = since = time.monotonic()
    seen = parked = 0
    while wait:
        statuses = await projections.status(name)
        (status,) = [status for status in statuses if status.collection == collection]
        if status.state == "read":
            break
        if status.replayed != seen:
            since, seen = time.monotonic(), status.replayed
        elif time.monotonic() - since > SILENCE and not status.commits:
            print("nothing is built yet: does a worker run?", file=sys.stderr)
            since = time.monotonic()
        if status.parked > parked:
            parked = status.parked
            print(
                f"streams parked in it: {parked}; readers stay where they are until these are "
                f"applied (`bus deadletters list` tells why they are not)",
                file=sys.stderr,
            )
        done = min(status.replayed, status.commits)
        print_progress(done, status.commits or 1, time.monotonic() - began)
        await asyncio.sleep(ASK_EVERY)
    return collection


def _declared(row: Declared) -> tuple[object, ...]:
    where = "documents" if row.versions_in_documents else "checkpoints"
    of, events = ", ".join(row.categories), ", ".join(row.events)
    return row.projection, row.version, of, row.partitions, where, events


def _as_json(found: Difference) -> dict[str, Any]:
    fields = {name: {"found": a, "expected": b} for name, (a, b) in found.fields.items()}
    return {"key": found.key, "kind": found.kind, "repaired": found.repaired, "fields": fields}


def _progress() -> Callable[[int, int], None]:
    began = time.monotonic()
    return lambda done, of: print_progress(done, of or 1, time.monotonic() - began)


def _report(found: Audited, as_json: bool) -> None:
    """Prints what an audit found; exits with 1 if the collection is not right."""
    if as_json:
        print_json({**found._asdict(), "differences": [_as_json(d) for d in found.differences]})
    else:
        _print_audited(found)
    if not found.is_right:
        raise typer.Exit(1)


def _print_audited(found: Audited) -> None:
    for difference in found.differences:
        print(f"{difference.key}: {difference.kind}{', repaired' if difference.repaired else ''}")
        for name, (here, expected) in difference.fields.items():
            print(f"    {cell(name)}: {cell(here)}, to be {cell(expected)}")
    print(
        f"{found.collection}: {found.compared} documents compared, {len(found.differences)} differ"
    )
    if found.parked:
        print(f"streams parked, and not compared: {len(found.parked)}", file=sys.stderr)


def _facts(status: CollectionStatus) -> dict[str, Any]:
    stuck = [stream._asdict() for stream in status.stuck]
    return {**status._asdict(), "lag": status.lag and status.lag._asdict(), "stuck": stuck}


def _row(status: CollectionStatus) -> tuple[object, ...]:
    built = f"{min(100, 100 * status.replayed // status.commits)} %" if status.commits else ""
    shown = {"building": built, "fetching": f"{status.replayed} events"}.get(status.state, "")
    swept, behind = status.swept or "", _behind(status.lag) if status.lag else status.away and "?"
    facts = status.projection, status.collection, status.version, status.state
    return *facts, shown, status.waiting, behind, status.parked, swept


def _behind(lag: Lag) -> str:
    more = "+" if lag.more else ""
    return f"{lag.events}{more} events, {lag.seconds:.0f} s" if lag.events else "-"

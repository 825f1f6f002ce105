"""`bus events`: shows the log, and sends from it again. Only prints; `bus.operate` does the work.

Exit status: 0 done, 1 nothing found, or an error on the way, 2 wrong usage.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import typer

from bus.bus import Bus
from bus.cli.running import Json, Target, on_open_bus, until_stopped
from bus.cli.tables import as_text, cell, moment, print_json, print_progress, print_table
from bus.common import clock
from bus.common.tasks import end
from bus.operate.conversation import TraceEntry
from bus.operate.events import Events, StoredEvent
from bus.recovery.recovery import Plan, Recovery
from bus.recovery.republishing import Republished

app = typer.Typer(
    name="events",
    help="Looks into the event log, sends from it once more, and recovers what is made of it; "
    "never changes it.",
    no_args_is_help=True,
)

TIME = "ISO 8601 (UTC where it names no zone), or how long ago: 30m, 2h, 3d"

Stream = Annotated[str, typer.Argument(help="category and id, as account-a1")]


@app.command()
def show(
    target: Target,
    stream: Stream,
    after: Annotated[int, typer.Option(min=0, help="only those beyond this version")] = 0,
    as_json: Json = False,
) -> None:
    """Shows the events of a stream in order, as they are stored, with their data."""

    async def all_of(bus: Bus) -> list[StoredEvent]:
        return [event async for event in Events(bus).show(stream, after=after)]

    found = on_open_bus(target, all_of)
    if as_json:
        print_json([event._asdict() for event in found])
    else:
        for event in found:
            _print_event(event)
    _check_found(found, f"{stream} has no events" + (f" beyond {after}" if after else ""))


@app.command()
def tail(
    target: Target,
    category: Annotated[str, typer.Option(help="only of this category")] = "",
    last: Annotated[int, typer.Option(min=0, help="begin with so many that are there")] = 10,
    as_json: Json = False,
) -> None:
    """Follows the log: shows the last events, then each as it is stored, until SIGINT or SIGTERM.

    With --json, it prints one object per line.
    """

    async def run(bus: Bus, stop: asyncio.Event) -> None:
        async with bus.looking():
            showing = asyncio.create_task(
                _show_all(Events(bus).tail(category=category, last=last), as_json)
            )
            showing.add_done_callback(lambda _: stop.set())
            await stop.wait()
            if showing.done():
                showing.result()
            await end([showing])

    until_stopped(target, run)


@app.command()
def trace(
    target: Target,
    correlation_id: Annotated[str, typer.Argument(help="of the conversation")],
    as_json: Json = False,
) -> None:
    """Shows a conversation: its commands and events, each beneath the one that caused it."""
    found = on_open_bus(target, lambda bus: Events(bus).trace(correlation_id))
    if as_json:
        print_json([entry._asdict() for entry in found])
    else:
        for entry in found:
            print(_line(entry))
    _check_found(found, f"nothing in the log has the correlation id {correlation_id}")


@app.command()
def unknown(target: Target, as_json: Json = False) -> None:
    """Lists names in the log for which this service has no class; reads the whole log."""
    found = on_open_bus(target, lambda bus: Events(bus).unknown())
    if as_json:
        print_json([count._asdict() for count in found])
        return
    heads = ("NAME", "CATEGORY", "COUNT", "FIRST", "LAST", "EXAMPLE")
    print_table(
        heads,
        (
            (o.name, o.category, o.count, o.first, o.last, f"{o.stream} at {o.version}")
            for o in found
        ),
    )


@app.command()
def republish(
    target: Target,
    since: Annotated[datetime, typer.Option(parser=moment, metavar="TIME", help=TIME)],
    to: Annotated[str, typer.Option(help="a router, a projection, or commands")],
    until: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="now, by default")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
    as_json: Json = False,
) -> None:
    """Sends events (or commands) to one subscription again, for example what its queue lost.

    They keep their ids, so what was handled counts once: through a handler's `Session`, what it
    stores and sends, a projection's versions. Other effects of handlers (a mail) happen again.
    """
    end = until or clock.now()
    progress = _Progress(since, end)

    async def send(bus: Bus) -> Republished:
        return await Events(bus).republish(
            to, since=since, until=until, dry_run=dry_run, report=progress.reached
        )

    done = False
    try:
        sent = on_open_bus(target, send)
        done = True
    finally:
        if not done and progress.events:
            print(
                f"{progress.events} went; go on with --since {progress.time.isoformat()} "
                f"--until {end.isoformat()}",
                file=sys.stderr,
            )
    if as_json:
        print_json({**sent._asdict(), "dry_run": dry_run})
    else:
        print(f"{'to send' if dry_run else 'sent'} to {cell(to)}: {sent.events}")
    for category in sent.absent:
        print(
            f"events of {cell(category)} are not kept here: they can be sent again by nobody but "
            f"their own service",
            file=sys.stderr,
        )


class _Progress:
    """How far sending has come, by the time of what was sent; drawn in hundredths."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self._since, self._until = since, until
        self.time, self.events = since, 0

    def reached(self, time: datetime, events: int) -> None:
        self.time, self.events = time, events
        whole = (self._until - self._since).total_seconds()
        part = (time - self._since).total_seconds()
        print_progress(round(100 * part / whole) if whole > 0 else 100, 100)


@app.command()
def recover(
    target: Target,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it would do")] = False,
    all: Annotated[
        bool, typer.Option("--all", help="build every collection anew, whatever was noticed")
    ] = False,
    as_json: Json = False,
) -> None:
    """Repairs what a restored backup or a dropped collection has left behind.

    The log counts: events that it does not hold are no longer believed, and affected collections
    are rebuilt. It may be stopped and run again; workers may run meanwhile.
    """

    async def run(bus: Bus) -> Plan:
        recovery = Recovery(bus, _print_step)
        return await (recovery.plan if dry_run else recovery.run)(everything=all)

    plan = on_open_bus(target, run)
    if as_json:
        print_json({**plan._asdict(), "done": not dry_run})
        return
    for what in plan.broken.values():
        print(cell(what))
    done = "would be" if dry_run else "are"
    print(f"a new epoch of the log {'would begin' if dry_run else 'has begun'}")
    print(f"{plan.marks} marks of events that the log does not hold {done} dropped")
    if plan.sent_again:
        print(f"sent again what they may have lost, by a worker: {', '.join(plan.sent_again)}")
    print(f"collections that {done} built anew: {', '.join(plan.rebuilt) or 'none'}")


def _print_step(step: str) -> None:
    print(cell(step), file=sys.stderr, flush=True)


def _check_found(found: object, problem: str) -> None:
    if not found:
        print(cell(problem), file=sys.stderr)
        raise typer.Exit(1)


async def _show_all(events: AsyncGenerator[StoredEvent, None], as_json: bool) -> None:
    async with aclosing(events) as following:
        async for event in following:
            if as_json:
                print(json.dumps(event._asdict(), default=as_text), flush=True)
            else:
                _print_event(event)


def _print_event(event: StoredEvent) -> None:
    print(
        f"{cell(event.time)}  {cell(event.stream)} at {event.version}  {cell(event.name)}", end=""
    )
    print(f" (schema {event.schema})  {cell(event.id)}")
    print(f"    correlation {cell(event.correlation_id)}, caused by {cell(event.causation_id)}")
    print(f"    {json.dumps(event.data)}", flush=True)


def _line(entry: TraceEntry) -> str:
    where = f"{entry.stream} at {entry.version}" if entry.stream else ""
    facts: list[Any] = [entry.time or "", entry.kind, entry.name, where, entry.id, entry.note]
    return "  " * entry.depth + "  ".join(cell(fact) for fact in facts if fact)

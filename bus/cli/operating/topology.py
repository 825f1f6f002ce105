"""`bus topology`: the queues of a service, and how RabbitMQ differs from them. Only prints;
`bus.operate.topology` does the work.

Exit status: 0 done, or nothing differs; 1 something differs, or is not there; 2 wrong usage.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bus.bus import Bus
from bus.cli.loading import load, without_servers
from bus.cli.running import Json, Target, guarded, on_open_bus
from bus.cli.tables import cell, print_json
from bus.errors import ConfigurationError
from bus.operate.topology.apply import Applied, Applying
from bus.operate.topology.plan import Plan, Planning
from bus.operate.topology.prune import Pruned, Pruning
from bus.transports.rabbitmq.moving.anew import PATIENCE
from bus.transports.rabbitmq.planning.change import CHANGE, CORRECT, MAKE, PRUNE, UNSEEN, Change
from bus.transports.topology import Queue, Topology

SHOW = "show"
COUNTED = {
    MAKE: "to make",
    CHANGE: "to change",
    PRUNE: "to prune",
    CORRECT: "to correct at the broker",
    UNSEEN: "not looked at",
}


class FormerForm(TyperGroup):
    """Takes `bus topology MODULE:build` for `bus topology show MODULE:build`, as it was before."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            print(f"`bus topology {args[0]}` is `bus topology show` now", file=sys.stderr)
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="topology",
    cls=FormerForm,
    help="Prints the queues of a service, and how RabbitMQ differs from them.",
    no_args_is_help=True,
)

Definitions = Annotated[
    Path | None,
    typer.Option(
        "--definitions",
        exists=True,
        dir_okay=False,
        help="look at this file in place of the broker: rabbitmqctl export_definitions FILE",
    ),
]
ConsumerTimeout = Annotated[
    float | None,
    typer.Option(
        "--consumer-timeout",
        min=1,
        help="seconds: what rabbitmq.conf has as consumer_timeout, which RabbitMQ tells nobody",
    ),
]


@app.command(SHOW)
def show(
    target: Target,
    declare: Annotated[
        bool,
        typer.Option(
            "--declare", help="make them at the broker, for others with BUS_DECLARE=never"
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Prints the queues of a service and what they are bound to. Needs no broker to print."""
    if declare:
        on_open_bus(target, _declared)
    described = guarded(lambda: load(target, without_servers).runtime.topology)
    if as_json:
        queues = [queue._asdict() for queue in described.queues]
        print(json.dumps({"service": described.service, "queues": queues}, indent=2))
        return
    for queue in described.queues:
        _print_queue(described, queue)


@app.command()
def plan(
    target: Target,
    definitions: Definitions = None,
    consumer_timeout: ConsumerTimeout = None,
    as_json: Json = False,
) -> None:
    """Prints what RabbitMQ lacks, what differs, what nobody declares, and harmful policies."""
    _print_plan(_planned(target, definitions, consumer_timeout), as_json)


@app.command()
def check(
    target: Target,
    definitions: Definitions = None,
    consumer_timeout: ConsumerTimeout = None,
    strict: Annotated[
        bool, typer.Option(help="1 also for warnings, and for what could not be looked at")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prints the plan; the exit status is 1 if anything differs."""
    planned = _planned(target, definitions, consumer_timeout)
    _print_plan(planned, as_json, strictly=strict)
    raise typer.Exit(1 if planned.differs(strictly=strict) else 0)


@app.command()
def apply(
    target: Target,
    wait: Annotated[
        float,
        typer.Option(
            min=0, help="seconds for which delayed messages may come back to a queue that is moved"
        ),
    ] = PATIENCE,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="OLD=NEW",
            help="a router that was renamed: its messages are brought to the new name; may be "
            "given again for others",
        ),
    ] = None,
    exchanges: Annotated[
        bool,
        typer.Option(
            "--exchanges",
            help="delete exchanges of the service that have another type, and make them anew",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Makes what is missing, and moves queues that differ with what is in them.

    A user who may declare runs it (BUS_DECLARE=always). Run it again if it ended in the middle.
    """
    names = guarded(lambda: _renames(rename or []))
    applied = on_open_bus(
        target,
        lambda bus: Applying(bus).apply(patience=wait, renames=names, exchanges=exchanges),
    )
    if as_json:
        _print_applied_json(applied)
    else:
        _print_applied(applied)
    gone = [moved.gone for moved in applied.moved.values()]
    gone += [renamed.gone for renamed in applied.renamed.values()]
    raise typer.Exit(1 if any(gone) else 0)


def _renames(pairs: Sequence[str]) -> dict[str, str]:
    """Returns the new names by the old ones. Raises: ConfigurationError."""
    named = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(named) or not all(named.values()):
        raise ConfigurationError("--rename takes OLD=NEW, the names of a router then and now")
    return named


def _print_applied_json(applied: Applied) -> None:
    moved = {queue: moved._asdict() for queue, moved in applied.moved.items()}
    renamed = {old: renamed._asdict() for old, renamed in applied.renamed.items()}
    print_json({"made": applied.made, "moved": moved, "renamed": renamed})


@app.command()
def prune(
    target: Target,
    yes: Annotated[
        str, typer.Option("--yes", metavar="SERVICE", help="the service's name: do not ask for it")
    ] = "",
    with_messages: Annotated[
        bool, typer.Option("--with-messages", help="queues that hold messages too, which are lost")
    ] = False,
    definitions: Definitions = None,
    as_json: Json = False,
) -> None:
    """Removes queues, bindings and exchanges of the service that nobody declares; asks first.

    What is consumed stays. By AMQP alone, it finds only queues that the service once declared.
    """

    async def prunable(bus: Bus) -> tuple[str, list[Change]]:
        return bus.service, await Pruning(bus).prunable(definitions=definitions)

    async def pruned(bus: Bus) -> Pruned:
        return await Pruning(bus).prune(changes, with_messages=with_messages)

    service, changes = on_open_bus(target, prunable)
    if changes:
        _confirm(service, changes, yes)  # outside of the loop, which would wait for an answer
    outcome = on_open_bus(target, pruned)
    if as_json:
        removed = [{"kind": change.kind, "name": change.name} for change in outcome.removed]
        kept = [{"name": stays.change.name, "why": stays.why} for stays in outcome.kept]
        print_json({"removed": removed, "kept": kept, "gone": dict(outcome.gone)})
    else:
        print(f"removed: {len(outcome.removed)}")
    for stays in outcome.kept:
        print(f"{cell(stays.change.name)} stays: {cell(stays.why)}", file=sys.stderr)
    for name, gone in outcome.gone.items():
        print(f"{cell(name)}: {gone:,} messages are gone with it", file=sys.stderr)
    raise typer.Exit(1 if outcome.kept or (outcome.gone and not with_messages) else 0)


def _confirm(service: str, changes: Sequence[Change], yes: str) -> None:
    """Ends the program unless the service's name is given, or typed."""
    for change in changes:
        print(_line(change), file=sys.stderr)
    try:
        named = yes or typer.prompt(f"Type {service} to remove them for good", err=True)
    except typer.Abort:  # by Ctrl-C, or there is nobody who could type
        print("\nnothing was removed: give --yes SERVICE where nobody types", file=sys.stderr)
        raise typer.Exit(2) from None
    if named != service:
        print(f"{named!r} is not {service!r}: nothing was removed", file=sys.stderr)
        raise typer.Exit(2)


def _print_applied(applied: Applied) -> None:
    print(f"made: {applied.made}")
    for queue, moved in applied.moved.items():
        print(f"{cell(queue)}: made anew, with {moved.messages:,} messages")
        _print_gone(queue, moved.gone)
    for old, renamed in applied.renamed.items():
        brought = f"{renamed.messages:,} messages and {renamed.letters:,} dead letters were brought"
        print(
            f"{cell(old)}: {'' if renamed.was_there else 'it has no queue (any more); '}{brought}"
        )
        _print_gone(old, renamed.gone)


def _print_gone(queue: str, gone: int) -> None:
    if gone:
        print(
            f"{cell(queue)}: {gone} messages came at the last moment and are gone with the former "
            f"queue; send events again by `bus events republish`",
            file=sys.stderr,
        )


async def _declared(bus: Bus) -> None:
    await bus.runtime.transport.declare(bus.runtime.topology)


def _planned(target: str, definitions: Path | None, consumer_timeout: float | None) -> Plan:
    async def planned(bus: Bus) -> Plan:
        return await Planning(bus).plan(definitions=definitions, consumer_timeout=consumer_timeout)

    return on_open_bus(target, planned)


def _print_queue(described: Topology, queue: Queue) -> None:
    print(queue.name)
    topics = [f"{described.service}.{queue.address}: {topic}" for topic in queue.topics]
    topics += [
        f"{owner.service}.events: {topic}" for owner in queue.foreign for topic in owner.topics
    ]
    shown = topics if len(topics) <= 6 else [*topics[:5], f"... and {len(topics) - 5} more"]
    print("".join(f"    {topic}\n" for topic in shown), end="")


def _print_plan(plan: Plan, as_json: bool, *, strictly: bool = False) -> None:
    if as_json:
        whole = {**plan._asdict(), "differs": plan.differs(strictly=strictly)}
        print_json({**whole, "changes": [change._asdict() for change in plan.changes]})
        return
    print(f"{plan.service} against {cell(plan.source)}")
    for remedy, changes in groupby(plan.changes, lambda change: change.remedy):
        for change in changes:
            print(_line(change))
        print(f"    {cell(remedy)}")
    print(_summary(plan))


def _line(change: Change) -> str:
    kind = f"{change.kind} " if change.kind else ""
    messages = f" ({change.messages:,} messages)" if change.messages else ""
    warning = " (warning)" if change.is_warning and change.sign == CORRECT else ""
    return f"{change.sign} {kind}{cell(change.name)}{messages}: {cell(change.why)}{warning}"


def _summary(plan: Plan) -> str:
    counted = Counter(change.sign for change in plan.changes)
    parts = [f"{counted[sign]} {words}" for sign, words in COUNTED.items() if counted[sign]]
    return f"Plan: {', '.join(parts)}." if parts else "Plan: nothing differs."

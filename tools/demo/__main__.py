"""The command line of `bin/demo`."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

from rich.console import Console

from tools.demo import looking, staying, stopping
from tools.demo.errors import DemoFailed
from tools.demo.report import Report, print_json, print_report
from tools.demo.run import Plan, run
from tools.demo.screen import Screen
from tools.demo.staying import KeptDemo
from tools.demo.stores import KINDS, SERVERS
from tools.services import ServiceError, ServiceUnavailable, command, keeping, services
from tools.services.finding import EVERYTHING, LABELS, MONGODB
from tools.services.kept import FOLDER

WRONG, FAILED = 1, 2


def main() -> int:
    began = time.monotonic()
    options = _parser().parse_args()
    command.leave_on_signals()
    screen = Screen(Console(stderr=True))
    try:
        if options.stop:
            return _stop(options.folder, screen)
        if options.keep:
            return _keep(options, began, screen)
        return _once(options, began, screen)
    except (DemoFailed, ServiceError) as error:
        screen.console.print(
            f"The demo could not {'be stopped' if options.stop else 'run'}: {error}"
            f"{_hint(options, error)}",
            markup=False,
            highlight=False,
        )
        return FAILED


def _once(options: argparse.Namespace, began: float, screen: Screen) -> int:
    """Runs the demo; its logs stay where something is wrong."""
    logs = Path(tempfile.mkdtemp(prefix="doubledecker-demo-"))
    wanted = False
    try:
        report = _run(_plan(options, began), options.broker == "memory", logs, screen)
        _print(report, as_json=options.json)
        wanted = bool(report.problems)
        return WRONG if wanted else 0
    except DemoFailed:
        wanted = True
        raise
    finally:
        if not wanted:
            shutil.rmtree(logs, ignore_errors=True)


def _keep(options: argparse.Namespace, began: float, screen: Screen) -> int:
    """Runs the demo and leaves it running, or says what runs already."""
    folder: Path = options.folder
    with staying.changing(folder):
        former = KeptDemo.read(folder)
        if former and former.running:
            screen.stage("A demo is kept already; nothing was started.")
            return _show(former, folder, as_json=options.json)
        if former:
            screen.stage(
                "No process of the demo that was kept runs any more; removing its rest ..."
            )
            stopping.stop(folder, former)
        return _begin(options, began, screen)


def _begin(options: argparse.Namespace, began: float, screen: Screen) -> int:
    folder: Path = options.folder
    logs = Path(tempfile.mkdtemp(prefix="demo-", dir=folder))  # nobody else's: --stop removes it
    try:
        report = _run(_plan(options, began), options.broker == "memory", logs, screen)
    except BaseException:
        staying.forget_ended(folder)
        raise
    kept = KeptDemo.read(folder)
    assert kept
    looking.wait(kept)
    if options.json:
        print(json.dumps(report.figures() | {"kept": looking.look(kept, folder).as_json()}))
    else:
        print_report(report, Console())
        _show(kept, folder, as_json=False)
    return WRONG if report.problems else 0


def _show(kept: KeptDemo, folder: Path, *, as_json: bool) -> int:
    """Prints what is kept; the status tells whether all of it runs."""
    sight = looking.look(kept, folder)
    if as_json:
        print(json.dumps({"kept": sight.as_json()}))
    else:
        looking.show(sight, Console())
    return WRONG if sight.ended else 0


def _stop(folder: Path, screen: Screen) -> int:
    with staying.changing(folder):
        kept = KeptDemo.read(folder)
        if kept is None:
            screen.stage(f"No demo is kept in {folder}.")
            return 0
        ended_before = kept.ended
        stopped = stopping.stop(folder, kept)
    if ended_before:
        screen.stage(f"Ended before, by themselves or by others: {', '.join(ended_before)}.")
    screen.stage(f"Stopped: {', '.join(stopped) or 'nothing ran'}. Its queues and data are gone.")
    return 0


def _hint(options: argparse.Namespace, error: Exception) -> str:
    """Returns what else would help where a server cannot be had."""
    if options.keep and not options.stores and isinstance(error, ServiceUnavailable):
        return ". Or, where it is RabbitMQ, add --broker memory"
    needed = {SERVERS[name]: name for name in options.stores}
    if not (needed and isinstance(error, ServiceUnavailable)):
        return ""
    servers = ", ".join(f"{name} ({LABELS[server]})" for server, name in needed.items())
    return f". Or leave it out of --stores, which asked for {servers}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/demo",
        description="Runs the job board under load, kills a worker half way, and compares with the "
        "event log every read document, the states of aggregates and the service's own documents "
        "or rows. Exit status 0: nothing is wrong; 1: something is; 2: the demo could not run.",
    )
    parser.add_argument("--commands", type=_count, default=3000, help="how many (default: 3000)")
    parser.add_argument("--seed", type=int, default=1, help="of the load's choices")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--broker",
        choices=("rabbitmq", "memory"),
        default="rabbitmq",
        help="memory: the in-memory transport, in one process (default: rabbitmq where it can be "
        "had)",
    )
    parser.add_argument(
        "--log",
        choices=(MONGODB, "postgresql", "mariadb"),
        default=MONGODB,
        help="where the event log is; in SQL, the service's own table is beside it (default: "
        "mongodb)",
    )
    parser.add_argument(
        "--stores",
        type=_stores,
        default=(),
        metavar="NAME,...",
        help=f"keep and compare documents in other stores besides, which are started, and killed "
        f"under load: all, or some of {', '.join(KINDS)} (tables for analysts in PostgreSQL; "
        f"search in OpenSearch; events in Kafka, and a third service that counts from there)",
    )
    staying_or_not = parser.add_mutually_exclusive_group()
    staying_or_not.add_argument(
        "--keep",
        action="store_true",
        help="leave everything running, servers included, and say where to look; where a demo is "
        "kept already, say what runs of it (exit status 1: not all)",
    )
    staying_or_not.add_argument(
        "--stop",
        action="store_true",
        help="end what --keep left running, and remove its queues and data; the servers stay until "
        "bin/services down",
    )
    parser.add_argument(
        "--folder",
        type=lambda text: Path(text).resolve(),
        default=FOLDER,
        help="where what is kept is noted (default: .services in the checkout)",
    )
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("one command at least")
    return number


def _stores(text: str) -> tuple[str, ...]:
    names = tuple(KINDS) if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of all, {', '.join(KINDS)}")
    return names


def _plan(options: argparse.Namespace, began: float) -> Plan:
    """Names of its own, unless the environment gives them: demos do not disturb each other."""
    service = os.environ.get("JOBBOARD_SERVICE") or f"demo_{uuid.uuid4().hex[:8]}"
    database = os.environ.get("BUS_MONGO_DB") or service
    log = "" if options.log == MONGODB else options.log
    return Plan(
        commands=options.commands,
        seed=options.seed,
        service=service,
        database=database,
        keep=options.folder if options.keep else None,
        began=began,
        log=log,
        stores=options.stores,
    )


def _run(plan: Plan, in_memory: bool, logs: Path, screen: Screen) -> Report:
    more = dict.fromkeys([plan.log] if plan.log else [])
    more |= dict.fromkeys(SERVERS[name] for name in plan.stores)
    names = [LABELS[name] for name in (*EVERYTHING, *more)]
    screen.stage(f"Finding or starting {', '.join(names[:-1])} and {names[-1]} ...")
    if in_memory:
        os.environ["BUS_AMQP_URL"] = "memory://"
    if plan.keep:
        keeping.up(plan.keep, [*more])
    with services(
        [*EVERYTHING, *more], kept_folder=plan.keep or FOLDER, allow_memory=True
    ) as found:
        return run(found, plan, logs, screen)


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
    if not as_json or report.problems:
        print_report(report, Console(stderr=as_json))


if __name__ == "__main__":
    sys.exit(main())

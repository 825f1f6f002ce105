"""The command line of `bin/soak`."""

import argparse
import asyncio
import json
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import structlog
import uvloop
from rich.console import Console

from tools.flat import report as growth_report
from tools.flat import run as flat
from tools.services import ServiceError, command
from tools.soak.faults import KINDS
from tools.soak.log import LOGS, MONGODB
from tools.soak.plan import Plan
from tools.soak.report import print_json, print_report
from tools.soak.run import SoakFailed, run
from tools.soak.schedule import chosen, needed
from tools.soak.screen import Screen
from tools.soak.sinks import plan as stores

WRONG, FAILED = 1, 2


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    try:
        plan = _plan(options)
    except ValueError as error:
        parser.error(str(error))
    command.leave_on_signals()
    screen = Screen(Console(stderr=True))
    folder = Path(tempfile.mkdtemp(prefix="doubledecker-soak-"))
    _log_to(folder / "probe.log")
    keep = True
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            wrong = (
                _flat(runner, options, folder, screen)
                if options.flat
                else _soak(runner, plan, folder, screen, as_json=options.json)
            )
        keep = options.keep or wrong
        return WRONG if wrong else 0
    except (SoakFailed, ServiceError) as error:
        screen.console.print(f"The soak could not run: {error}", markup=False, highlight=False)
        return FAILED
    except Exception:
        screen.console.print_exception()
        return FAILED
    finally:
        if keep:
            screen.stage(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _soak(
    runner: asyncio.Runner, plan: Plan, folder: Path, screen: Screen, *, as_json: bool
) -> bool:
    """Whether anything is wrong, once it is told."""
    report = runner.run(run(plan, folder, screen))
    if as_json:
        print_json(report)
    print_report(report, Console(stderr=as_json))
    return bool(report.problems)


def _flat(
    runner: asyncio.Runner, options: argparse.Namespace, folder: Path, screen: Screen
) -> bool:
    """Whether anything grows, once it is told."""
    plan = flat.Plan(options.flat, options.idle, options.rate)
    watched = runner.run(flat.run(plan, folder, screen.stage))
    if options.json:
        print(json.dumps(growth_report.figures(watched)))
    growth_report.print_report(watched, Console(stderr=options.json))
    return bool(growth_report.grows(watched))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/soak",
        description="Runs the job board under load while things break, and compares a ledger of "
        "all commands with the event log and every read document. Exit status 0: nothing is "
        "lost, applied twice, out of order or wrong; 1: something is; 2: the soak could not run.",
        epilog=f"Faults: {', '.join(KINDS)}.",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="under load (default: 2)")
    parser.add_argument(
        "--faults",
        default="all",
        metavar="LIST",
        help="all, none, or kinds by comma, each with a weight of its own or not: "
        "wire_cut=20,broker_kill (default: all that one node and one member can have)",
    )
    parser.add_argument(
        "--log", choices=LOGS, default=MONGODB, help=f"where the event log is (default: {MONGODB})"
    )
    parser.add_argument(
        "--sinks",
        nargs="?",
        const="all",
        default="",
        metavar="LIST",
        help="keep projections in these stores besides, and break them, too: "
        f"{', '.join(stores.SINKS)} (default without a list: all)",
    )
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument("--nodes", type=int, choices=(1, 3), help="RabbitMQ nodes")
    parser.add_argument("--members", type=int, choices=(1, 3), help="MongoDB members")
    parser.add_argument(
        "--every", type=float, default=0.0, help="seconds from one recovery to the next fault"
    )
    parser.add_argument("--authors", type=int, default=96, help="at a time (default: 96)")
    parser.add_argument(
        "--flat",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="break nothing: run a worker, a relay and an API under a steady load for so long, "
        "then idle, and tell what grows (status 1 if anything does); on the servers that the "
        "environment names (BUS_AMQP_URL, BUS_MONGO_URL), else on private ones",
    )
    parser.add_argument(
        "--idle", type=float, default=15.0, metavar="MINUTES", help="after --flat (default: 15)"
    )
    parser.add_argument(
        "--rate", type=float, default=200.0, help="commands a second of --flat (default: 200)"
    )
    parser.add_argument("--keep", action="store_true", help="keep ledger and logs in any case")
    return parser


def _log_to(path: Path) -> None:
    """What the probe's bus and its libraries have to say is no matter of the screen."""
    logging.basicConfig(filename=path, level=logging.WARNING)
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _plan(options: argparse.Namespace) -> Plan:
    """Raises: ValueError, SystemExit."""
    sinks = stores.chosen(options.sinks) if options.sinks else ()
    faults = chosen(options.faults, options.log, sinks)
    needs = needed(faults, options.log)
    members = max(needs.members, options.members or 1)
    if members > 1 and "store" in needs.wires:
        sys.exit(
            "bin/soak: a driver of MongoDB's goes round a wire to the members of a set: leave out "
            f"{', '.join(_of_store(faults, options.log))}, or what needs --members 3"
        )
    return Plan(
        seed=random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed,
        minutes=options.minutes,
        faults=faults,
        nodes=max(needs.nodes, options.nodes or 1),
        members=members,
        every=options.every,
        authors=options.authors,
        wires=needs.wires,
        log=options.log,
        small_disk=needs.small_disk,
        sinks=sinks,
    )


def _of_store(faults: Iterable[str], log: str) -> list[str]:
    return [name for name in faults if "store" in needed([name], log).wires]


if __name__ == "__main__":
    sys.exit(main())

"""The command line of `bin/services`."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from tools.services import command, keeping, kept
from tools.services.errors import ServiceError
from tools.services.finding import EVERYTHING, MORE, services
from tools.services.progress import say

FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    command.leave_on_signals()
    try:
        return _act(options)
    except ServiceError as error:
        say(str(error))
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/services",
        description="Find or start RabbitMQ and MongoDB, and other servers where asked.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run a command with BUS_AMQP_URL and BUS_MONGO_URL set")
    run.add_argument(
        "--allow-memory",
        action="store_true",
        help="where RabbitMQ cannot be had, set BUS_AMQP_URL to memory://",
    )
    run.add_argument(
        "--try",
        dest="optional",
        type=_names,
        default=(),
        metavar="NAME,...",
        help="start these too, and go on without those that cannot be had",
    )
    run.add_argument(
        "--later",
        type=_names,
        default=(),
        metavar="NAME,...",
        help="start these once a test of the command's asks for them",
    )
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    up = actions.add_parser("up", help="start what is missing and keep it running")
    down = actions.add_parser("down", help="stop what `up` keeps")
    down.add_argument("--remove", action="store_true", help="delete private nodes' data too")
    status = actions.add_parser("status", help="say what `up` keeps (exit status 1: not all runs)")
    status.add_argument("--json", action="store_true", help="for programs")
    for action in (run, up):
        action.add_argument(
            "--with",
            dest="more",
            type=_names,
            default=(),
            metavar="NAME,...",
            help=f"start these too: {', '.join(MORE)}",
        )
    for action in (run, up, down, status):
        action.add_argument(
            "--folder",
            type=lambda text: Path(text).resolve(),
            default=kept.FOLDER,
            help="where kept services live (default: .services in the checkout)",
        )
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in MORE]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(MORE)}")
    return names


def _act(options: argparse.Namespace) -> int:
    match options.action:
        case "run":
            return _run(options)
        case "up":
            return _up(options.folder, options.more)
        case "down":
            keeping.down(options.folder, remove=options.remove)
            return 0
        case _:
            return _status(options.folder, as_json=options.json)


def _run(options: argparse.Namespace) -> int:
    wanted = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not wanted:
        say("bin/services run needs a command: bin/services run COMMAND ...")
        return 2
    with services(
        [*EVERYTHING, *options.more],
        kept_folder=options.folder,
        allow_memory=options.allow_memory,
        optional=options.optional,
        on_demand=options.later,
    ) as found:
        status = command.run(wanted, found.environment)
        command.ignore_signals()
    return status


def _up(folder: Path, more: list[str]) -> int:
    for variable, url in keeping.up(folder, more).items():
        print(f"export {variable}={shlex.quote(url)}")
    return 0


def _status(folder: Path, *, as_json: bool) -> int:
    state = keeping.status(folder)
    if as_json:
        print(json.dumps(state, indent=2))
    else:
        for name, service in state.items():
            word = "running" if service["running"] else "not running"
            print(f"{name:15}{word:14}{service['origin']:10}{service['url']}")
    return 0 if all(service["running"] for service in state.values()) else FAILED


if __name__ == "__main__":
    sys.exit(main())

"""The commands. Each is a few lines, because the rest of the package does the work."""

import asyncio
import json
from typing import Annotated, NoReturn

import typer

from bus.bus import Bus
from bus.cli import aggregates, contracts, deadletters, events, projections, stores
from bus.cli.checking import ask_worker, shown
from bus.cli.loading import load, without_servers
from bus.cli.operating import topology
from bus.cli.operating.doctor import doctor
from bus.cli.running import Json, Target, answering, guarded, until_stopped, warn_if_in_memory
from bus.common.tasks import end
from bus.settings import Settings
from bus.telemetry.facts import Facts, Here
from bus.version import __version__
from bus.worker import Worker
from bus.write.relay import Relay

app = typer.Typer(
    name="bus",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="print the version, and exit", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Runs and describes a service on the bus."""


app.add_typer(deadletters.app)
app.add_typer(projections.app)
app.add_typer(aggregates.app)
app.add_typer(events.app)
app.add_typer(contracts.app)
app.add_typer(stores.app)
app.add_typer(topology.app)
app.command()(doctor)


@app.command()
def worker(
    target: Target,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="a subscription to run, or a partition of one (name.0of2); all by default"
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="ask the worker that runs on this machine, and exit: 0 if ready")
    ] = False,
    as_json: Json = False,
) -> None:
    """Runs projections, event handlers and queued commands until SIGTERM or SIGINT.

    The first signal stops it gracefully, the second one at once.
    """
    if check:
        _check_worker(target, as_json)

    async def run(bus: Bus, stop: asyncio.Event) -> None:
        worker = Worker(bus, only=only or ())
        async with bus, worker:
            warn_if_in_memory(bus)
            await stop.wait()

    until_stopped(target, run)


@app.command()
def relay(target: Target) -> None:
    """Publishes what is stored but not yet confirmed by the broker, until SIGTERM or SIGINT."""

    async def run(bus: Bus, stop: asyncio.Event) -> None:
        async with bus:
            warn_if_in_memory(bus)
            runtime = bus.runtime
            relay = Relay(
                runtime.event_log, runtime.publisher, runtime.control, loops=runtime.loops
            )
            async with answering(runtime):
                running = [
                    runtime.loops.start(relay.run, "relay"),
                    runtime.loops.start(Facts(runtime).run, "facts"),
                    runtime.loops.start(Here(runtime).run, "process"),
                ]
                try:
                    await stop.wait()
                finally:
                    await end(running)

    until_stopped(target, run)


@app.command()
def claim(
    target: Target,
    former: Annotated[str, typer.Option("--from", help="what the service was named before")],
) -> None:
    """Takes over the database of a service that was renamed to this one. Stop the former first."""
    guarded(lambda: asyncio.run(load(target, Settings).claim(former)))
    print(f"the database of {former} is that of this service now")


@app.command()
def version(as_json: Json = False) -> None:
    """Prints the version."""
    print(json.dumps({"version": __version__}) if as_json else __version__)


def main() -> None:
    """Runs the console script."""
    app()


def _check_worker(target: str, as_json: bool) -> NoReturn:
    report = guarded(lambda: ask_worker(load(target, without_servers).runtime.settings))
    print(json.dumps(report) if as_json else shown(report))
    raise SystemExit(0 if report["ready"] else 1)

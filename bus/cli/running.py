"""What the commands share: their parameters, the loop they run on, how an error ends them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import typer

from bus.assembly.runtime import Runtime
from bus.bus import Bus
from bus.cli.loading import load
from bus.errors import BusError, ConfigurationError
from bus.observe import log
from bus.observe.health_server import HealthServer
from bus.observe.lines import LINES
from bus.settings import MEMORY, Settings

Result = TypeVar("Result")

Target = Annotated[str, typer.Argument(help="the service: module:function, as handlers.app:build")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Returns uvloop's, if the extra is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def guarded(action: Callable[[], Result]) -> Result:
    """Returns the action's result; on a BusError, prints it and ends the program.

    The status is 2 if the program or its settings must be corrected, otherwise 1.
    """
    try:
        return action()
    except BusError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigurationError) else 1) from None


def on_open_bus(target: str, action: Callable[[Bus], Awaitable[Result]]) -> Result:
    """Returns the action's result on the service's bus, opened with `looking`, because a command
    may run another release of the code than the serving one."""

    async def whole(bus: Bus) -> Result:
        async with bus.looking() as opened:
            return await action(opened)

    return guarded(lambda: _run(whole, load(target, Settings)))


def until_stopped(target: str, run: Callable[[Bus, asyncio.Event], Awaitable[None]]) -> None:
    """Runs `run` with the service's bus, not yet open, and an event that SIGTERM or SIGINT sets."""

    async def whole(bus: Bus) -> None:
        log.configure(level=bus.runtime.settings.log_level)
        await run(bus, _stop_on_signals())

    guarded(lambda: _run(whole, load(target, Settings)))


@asynccontextmanager
async def answering(runtime: Runtime) -> AsyncGenerator[None, None]:
    """Answers for health, and for metrics, at the health port, if there is one. Raises:
    ConfigurationError if it is not to be had."""
    host, port = runtime.settings.health_host, runtime.settings.health_port
    server = HealthServer(runtime.checkup, host, port, pages=runtime.signals.pages)
    if port:
        await server.start()
    try:
        yield
    finally:
        await server.close()


def warn_if_in_memory(bus: Bus) -> None:
    """Warns that a service in memory cannot be reached, or loses its data."""
    settings = bus.runtime.settings
    kept = [name for name in ("amqp_url", "mongo_url") if getattr(settings, name) == MEMORY]
    if kept and bus.runtime.has_default_backend:
        variables = " and ".join(f"BUS_{name.upper()}" for name in kept)
        lacks = "nobody outside of this process reaches it, and " if "amqp_url" in kept else ""
        lost = "what it holds ends with it"
        log.Logger("bus").warning(
            "in_memory",
            service=bus.service,
            reason=f"{lacks}{lost}; set {variables} to those of servers, and let the service be "
            f"built with Settings()",
        )


def _run(whole: Callable[[Bus], Coroutine[Any, Any, Result]], bus: Bus) -> Result:
    """Runs `whole` in an event loop; the bus was loaded outside of one, so that the application
    may run its own while it is loaded."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(whole(bus))


def _stop_on_signals() -> asyncio.Event:
    """Returns an event that SIGTERM or SIGINT sets; the second signal ends the process at once."""
    stop = asyncio.Event()

    def receive(number: int) -> None:
        if stop.is_set():
            LINES.flush(0.2)
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, receive, number)
    return stop
